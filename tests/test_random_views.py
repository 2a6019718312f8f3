"""The random parameters of views: their distributions, and what they depend on."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import Mesh, PartitionSpec

from ssljax.views import augment, blur, colours, crops, recipes
from ssljax.views.keys import record_keys
from tests import references

torch = references.load("torch")
torchvision = references.load("torchvision")
transforms = references.load("torchvision.transforms.v2")

pytestmark = pytest.mark.reference
MANY = 4000
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SURE = 1e-3  # a test that compares equal distributions fails this often, for a new seed


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(64, 64, (0.08, 1.0)), (300, 200, (0.08, 1.0)), (50, 400, (0.2, 1.0)), (96, 96, (0.05, 0.4))],
)
def test_boxes_are_distributed_as_torchvisions(height, width, scale):
    torch.manual_seed(0)
    crop = transforms.RandomResizedCrop(8, scale=scale)
    pixels = torch.zeros(3, height, width)
    names = ("top", "left", "height", "width")
    theirs = [crop.make_params([pixels]) for _ in range(MANY)]
    numbers = jax.random.uniform(jax.random.key(1), (MANY, crops.NUMBERS))
    draw = jit(jax.vmap(lambda numbers, size: crops.random_box(numbers, size, scale), (0, None)))
    ours = draw(numbers, jnp.array([height, width], jnp.float32))
    for name in names:
        expected = np.array([params[name] for params in theirs])
        assert scipy.stats.ks_2samp(getattr(ours, name), expected).pvalue > SURE, name
    assert (ours.top + ours.height <= height).all()
    assert (ours.left + ours.width <= width).all()
    assert min(ours.top.min(), ours.left.min()) >= 0
    assert all((np.asarray(x) == np.round(x)).all() for x in ours)


VIEW = recipes.View(
    bicubic=True, colour=(0.4, 1.2, 0.2, 0.1), grey=0.2, blur=0.5, solarize=0.3, pad=4
)


@pytest.fixture(scope="module")
def draws():
    keys = jax.random.split(jax.random.key(2), MANY)
    size = jnp.array([40.0, 60.0])
    return jit(jax.vmap(lambda key: augment.draw(VIEW, key, size)))(keys)


def test_probabilities_are_as_the_recipe_says(draws):
    for name, probability in [
        ("flip", 0.5), ("colour", 0.8), ("grey", 0.2), ("blur", 0.5), ("solarize", 0.3)
    ]:  # fmt: skip
        count = int(getattr(draws, name).sum())
        assert scipy.stats.binomtest(count, MANY, probability).pvalue > SURE, name


def test_amounts_orders_and_the_blur_are_distributed_as_torchvisions(draws):
    torch.manual_seed(0)
    jitter = transforms.ColorJitter(*VIEW.colour)
    blurred = transforms.GaussianBlur(3, VIEW.sigma)
    theirs = [jitter.make_params([]) for _ in range(MANY)]
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    for index, name in enumerate(names):
        expected = [params[name] for params in theirs]
        assert scipy.stats.ks_2samp(draws.amounts[:, index], expected).pvalue > SURE, name
    sigma = [blurred.make_params([])["sigma"][0] for _ in range(MANY)]
    assert scipy.stats.ks_2samp(draws.sigma, sigma).pvalue > SURE
    orders = [tuple(np.asarray(order).tolist()) for order in draws.order]
    expected = [tuple(params["fn_idx"].tolist()) for params in theirs]
    every = sorted(set(orders))
    assert len(every) == 24
    table = [[found.count(order) for order in every] for found in (orders, expected)]
    assert scipy.stats.chi2_contingency(table).pvalue > SURE


def test_offsets_are_uniform_and_draws_are_independent(draws):
    for axis in (0, 1):
        counts = np.bincount(draws.offset[:, axis], minlength=9)
        assert len(counts) == 9
        assert scipy.stats.chisquare(counts).pvalue > SURE
    columns = jnp.stack(
        [
            *(getattr(draws, name) for name in ("flip", "colour", "grey", "blur", "solarize")),
            *draws.amounts.T, draws.sigma, *draws.offset.T, draws.box.height, draws.order[:, 0],
        ]
    )  # fmt: skip
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 4.5 / np.sqrt(MANY)


def test_a_view_is_what_torchvisions_operations_make_of_its_draws():
    functional = references.load("torchvision.transforms.v2.functional")
    rng, side, count = np.random.default_rng(0), 32, 12
    images = rng.random((count, 40, 40, 3), np.float32)
    keys, size = jax.random.split(jax.random.key(5), count), jnp.array([40.0, 40.0])
    make = augment.augment(VIEW, side)
    made, draws = jit(
        lambda keys: (
            jax.lax.map(lambda pair: make(*pair, size), (keys, images)),
            jax.vmap(lambda key: augment.draw(VIEW, key, size))(keys),
        )
    )(keys)
    applied = draws.colour, draws.grey, draws.blur, draws.solarize, draws.flip
    assert all(0 < x.sum() < count for x in applied)
    for i in range(count):
        one = jax.tree.map(lambda x: np.asarray(x[i]), draws)  # noqa: B023
        box = [int(x) for x in one.box]
        x = torch.from_numpy(images[i]).permute(2, 0, 1)
        bicubic = transforms.InterpolationMode.BICUBIC
        x = functional.resized_crop(x, *box, [side, side], bicubic, antialias=True).clamp(0, 1)
        x = functional.horizontal_flip(x) if one.flip else x
        x = functional.crop(functional.pad(x, [4] * 4), *one.offset.tolist(), side, side)
        adjust = [getattr(functional, f"adjust_{name}") for name in colours.OPERATIONS]
        for index in one.order if one.colour else ():
            x = adjust[index](x, float(one.amounts[index]))
        x = functional.rgb_to_grayscale(x, 3) if one.grey else x
        size_, sigma = blur.kernel_size(side), float(one.sigma)
        x = functional.gaussian_blur(x, [size_, size_], [sigma, sigma]) if one.blur else x
        near = np.abs(x.numpy() - 0.5) < 1e-4  # rounding may decide what is inverted
        x = functional.solarize(x, 0.5) if one.solarize else x
        error = np.abs(np.moveaxis(np.asarray(made[i]), -1, 0) - x.numpy())
        assert error[~near].max() < 1e-4


def test_vmap_as_on_accelerators_makes_the_same_views():
    rng, side, count = np.random.default_rng(0), 12, 6
    images = rng.integers(0, 256, (count, 20, 20, 3), np.uint8)
    sizes = np.full((count, 2), 20, np.float32)
    view = dataclasses.replace(VIEW, pad=0, solarize=0)  # rounding may decide what is inverted
    group = recipes.Group((dataclasses.replace(view, bicubic=False),) * 2)
    keys = jax.random.split(jax.random.key(3), (count, 2))
    expected, found = (
        jit(functools.partial(augment._group, group, side, each))(images, sizes, keys)
        for each in (augment._one_by_one, jax.vmap)
    )
    assert expected.shape == (count, 2, side, side, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_view_depends_on_seed_epoch_and_record_only():
    rng, side = np.random.default_rng(0), 12
    images = rng.integers(0, 256, (8, 20, 20, 3), np.uint8)
    sizes = np.array([[20, 30], [40, 20]] * 4, np.int32)
    view = recipes.View(colour=(0.4, 0.4, 0.4, 0.1), grey=0.2)
    recipe = {"global": recipes.Group((view, view))}

    def views(images, sizes, records, seed=3, epoch=1):
        keys = record_keys(seed, epoch, records)
        return augment.make_views(images, sizes, keys, recipe, side)["global"]

    on_one = jit(views)
    records = np.arange(100, 108)
    whole = on_one(images, sizes, records)
    assert whole.shape == (8, 2, 12, 12, 3)
    order = np.array([5, 0, 3, 7, 1, 2, 6, 4])
    moved = on_one(images[order], sizes[order], records[order])
    np.testing.assert_array_equal(moved, whole[order])
    # Two views differ, and so do those of another record, epoch or seed.
    assert (whole[:, 0] != whole[:, 1]).any()
    for other in [(records + 8, 3, 1), (records, 3, 2), (records, 4, 1)]:
        changed = on_one(images, sizes, *other) != whole
        assert changed.any(axis=(2, 3, 4)).all()
    for devices in (2, 4):  # which see batches of four and two
        mesh = Mesh(np.array(jax.devices()[:devices]), "data")
        spec = PartitionSpec("data")
        parts = jit(
            jax.shard_map(views, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        )(images, sizes, records)
        np.testing.assert_allclose(parts, whole, atol=2e-6)
