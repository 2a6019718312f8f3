"""Permutation sets, tiles, losses and shortcuts of `jigsaw_permutations` and `relative_patch`."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.methods.permutations import permutation_set
from ssljax.methods.tiles import normalize, paste
from ssljax.models.network import variables
from ssljax.report.live_page import LivePage
from ssljax.runs.config import resolve
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import make_run, open_run
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.run_step import make_run_step
from ssljax.training.step import make_evaluation_step
from tests import references
from tests.conftest import REPOSITORY
from tests.test_methods import on_one_device, one_batch

RNG = np.random.default_rng(0)
LUMA = np.array([0.2989, 0.587, 0.114])
quick = pytest.mark.quick


def method(name, size=227, **options):
    return make_method({"name": name, **options}, DataSpec(size))


def make_batch(made, size=4):
    draws = [made.draw(np.random.default_rng(index)) for index in range(size)]
    side = made.image_size
    return {
        "image": RNG.integers(0, 256, (size, side, side, 3), dtype=np.uint8),
        **{key: np.stack([draw[key] for draw in draws]) for key in draws[0]},
    }


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


@quick
@pytest.mark.parametrize("data", ["fashion_mnist_10k", "deep_fashion"])
@pytest.mark.parametrize("name", ["jigsaw_permutations", "relative_patch"])
def test_the_recipes_fit_vision_transformers(name, data):
    choice = f"method={name},model=vit_tiny,data={data}"
    config = config_files.load(f"{REPOSITORY}/configs/pretrain.py:{choice}")
    made = make_run(config, ()).method
    assert (made.image_size, made.tile_side) == ((36, 8) if data != "deep_fashion" else (240, 64))
    config.method.gap -= 1
    with pytest.raises(InputError, match="^method.gap: .* there are tiles of .* whole patches of"):
        make_run(config, ())


@quick
@pytest.mark.parametrize("criterion", ["mean", "minimum"])
@pytest.mark.parametrize("seed", range(5))
def test_a_set_of_permutations_is_that_of_a_plain_greedy_loop(criterion, seed):
    found = [tuple(row) for row in permutation_set(4, 24, criterion, seed).tolist()]
    combine = sum if criterion == "mean" else min
    left = list(itertools.permutations(range(4)))
    chosen = [found[0]]
    left.remove(found[0])
    while left:
        best = max(left, key=lambda row: combine(distance(row, other) for other in chosen))
        chosen.append(best)
        left.remove(best)
    assert found == chosen
    assert len({tuple(permutation_set(4, 2, criterion, seed)[0]) for seed in range(9)}) > 3


@quick
@pytest.mark.parametrize("criterion", ["mean", "minimum"])
def test_a_large_set_is_greedy_and_made_only_once(criterion):
    found = permutation_set(9, 200, criterion, 0)
    assert permutation_set(9, 200, criterion, 0) is found
    assert not found.flags.writeable
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(9), (200, 1)))
    assert len(np.unique(found, axis=0)) == 200
    # A smaller set is the beginning of a larger one.
    np.testing.assert_array_equal(permutation_set(9, 100, criterion, 0), found[:100])
    everyone = np.array(list(itertools.permutations(range(9))))
    for count in (1, 5, 40):
        distances = (everyone[:, None, :] != found[None, :count]).sum(axis=-1)
        best = distances.sum(axis=1) if criterion == "mean" else distances.min(axis=1)
        best[[np.flatnonzero((everyone == row).all(axis=1))[0] for row in found[:count]]] = 0
        np.testing.assert_array_equal(everyone[best.argmax()], found[count])
    pairs = (found[:100, None] != found[None, :100]).sum(axis=-1)[np.triu_indices(100, 1)]
    assert pairs.mean() > 8  # the mean of random ones is 8
    assert pairs.min() >= (6 if criterion == "minimum" else 2)


@quick
def test_more_than_nine_tiles_have_a_set_from_a_sample():
    found = permutation_set(16, 50, "minimum", 3)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(16), (50, 1)))
    pairs = (found[:, None] != found[None]).sum(axis=-1)[np.triu_indices(50, 1)]
    assert pairs.min() >= 12


def cut_in_a_loop(made, batch, cells, gap, grey=None):
    """The tiles of a batch, channel by channel, as float in [-1, 1]."""
    count, side = len(cells[0]), made.cell - gap
    expected = np.zeros((len(cells), count, side, side, 3))
    for example, image in enumerate(batch["image"] / 255):
        if batch["grey"][example] if grey is None else grey:
            image = np.repeat((image @ LUMA)[..., None], 3, axis=-1)
        for place, cell in enumerate(cells[example]):
            row, column = divmod(int(cell), made.cells)
            for channel in range(3):
                y, x = batch["shifts"][example, place, channel]
                down, right = batch["offsets"][example, place]
                y = row * made.cell + min(max(y + down, 0), gap)
                x = column * made.cell + min(max(x + right, 0), gap)
                expected[example, place, ..., channel] = (
                    image[y : y + side, x : x + side, channel] * 2 - 1
                )
    if not gap:
        weights = shrinking(made.cell, made.tile_side)
        return np.einsum("ij,ntjkc,lk->ntilc", weights, expected, weights)
    return expected


def shrinking(size, to):
    """float[to, size]: the weights of bilinear, antialiased resizing."""
    scale = size / to
    weights = np.zeros((to, size))
    for i, j in np.ndindex(to, size):
        weights[i, j] = max(0, 1 - abs((j + 0.5) / scale - (i + 0.5)))
    return weights / weights.sum(axis=1, keepdims=True)


def cells_of(made, batch):
    """The cell that each tile shows, as the docs say it."""
    if "sides" not in batch:
        return made.permutation_set[batch["permutation"]]
    around = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    return [[4, *around[sides]] for sides in batch["sides"]]


@quick
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jigsaw_permutations", {"grid": 2, "permutations": 20}),
        ("jigsaw_permutations", {"grid": 3}),
        ("jigsaw_permutations", {"grid": 4, "permutations": 5}),
        ("relative_patch", {}),
        ("relative_patch", {"all_pairs": False}),
    ],
)
def test_tiles_are_those_of_a_plain_loop(name, options):
    made = method(name, 61, gap=5, colour_shift=2, grey=0.5, **options)
    batch = make_batch(made, 6)
    assert len(set(batch["grey"].tolist())) == 2
    assert np.abs(batch["shifts"]).max() == 2
    cells = cells_of(made, batch)
    for look, given in (
        (made.look, {"gap": 5}),
        (made.looks()["without_gap"], {"gap": 0}),
        (made.looks()["in_grey"], {"gap": 5, "grey": True}),
        (made.looks()["in_colour"], {"gap": 5, "grey": False}),
    ):
        expected = cut_in_a_loop(made, batch, cells, **given)
        np.testing.assert_allclose(made.show(batch, look), expected, atol=1e-5)


@quick
def test_a_gap_that_is_only_measured_leaves_a_frame():
    made, small = method("jigsaw_permutations", 60), method("jigsaw_permutations", 60, gap=3)
    batch = make_batch(made)
    look = made.looks()["with_gap"]
    assert look.gap == 3  # a sixth of 20
    batch_in_the_middle = {**batch, "offsets": np.ones((4, 9, 2), np.int32)}
    expected = np.zeros((4, 9, 20, 20, 3), np.float32)
    expected[:, :, 1:18, 1:18] = small.show(batch_in_the_middle, small.look)
    np.testing.assert_array_equal(made.show(batch, look), expected)
    assert made.inputs(batch, None, True).shape == expected.shape


@quick
def test_a_puzzle_without_gaps_can_be_put_together_with_its_permutation():
    made = method("jigsaw_permutations", 60)
    batch = make_batch(made, 8)
    tiles = np.asarray(made.inputs(batch, None, True))
    placed = np.empty_like(tiles)
    for example, number in enumerate(batch["permutation"]):
        placed[example, made.permutation_set[number]] = tiles[example]
    np.testing.assert_allclose(paste(placed, 3), batch["image"] / 255 * 2 - 1, atol=1e-6)


@quick
def test_all_permutations_are_drawn_and_grey_has_its_probability():
    made = method("jigsaw_permutations", grid=2, permutations=24, grey=0.3)
    rng = np.random.default_rng(0)
    draws = [made.draw(rng) for _ in range(4800)]
    counts = np.bincount([draw["permutation"] for draw in draws], minlength=24)
    assert ((counts - 200) ** 2 / 200).sum() < 60  # 23 degrees of freedom; p < 1e-4
    assert abs(np.mean([draw["grey"] for draw in draws]) - 0.3) < 0.03
    sides = method("relative_patch", all_pairs=False)
    counts = np.bincount([sides.draw(rng)["sides"][0] for _ in range(1600)], minlength=8)
    assert ((counts - 200) ** 2 / 200).sum() < 32  # 7 degrees of freedom


@quick
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "jigsaw_permutations",
            {"grid": 2, "permutations": 25},
            "method.permutations must be <= 24, the number of permutations of 2×2 tiles, got 25",
        ),
        ("jigsaw_permutations", {"distance": "max"}, "distance must be one of 'mean', 'minimum'"),
        ("jigsaw_permutations", {"gap": 75}, r"method.gap must be < 75, .*image_size=227, got 75"),
        ("relative_patch", {"gap": 2, "colour_shift": 3}, r"<= method.gap \(2\), got 3"),
        ("relative_patch", {"grey": 1.5}, "method.grey must be <= 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        method(name, **options)


@quick
def test_images_that_are_smaller_than_the_grid_are_refused():
    with pytest.raises(InputError, match="data.image_size must be >= 3, .* got 2"):
        method("relative_patch", 2)


@quick
def test_tiles_that_are_too_small_for_the_network_are_refused(make_config):
    config = make_config("relative_patch").copy_and_resolve_references().unlock()
    config.data.image_size = 180
    said = (
        "method.gap: with 3×3 cells of 60 px and a gap of 2 px there are tiles of 58 px, too small "
        "for alexnet, which needs at least 64 px"
    )
    with pytest.raises(InputError, match=said):
        open_run(resolve(config))


@quick
def test_grey_is_remarked_on_if_there_is_no_colour():
    assert "one channel" in method("relative_patch", grey=0.5).remarks(1)[0]
    assert not method("relative_patch", grey=0.5).remarks(3)
    assert not method("relative_patch").remarks(1)


@pytest.mark.reference
def test_normalised_tiles_are_torchs():
    torch = references.load("torch")
    tiles = RNG.normal(2, 3, (2, 4, 6, 6, 3)).astype(np.float32)
    tiles[0, 0] = 0.7  # a uniform tile stays uniform
    given = torch.tensor(tiles)
    std, mean = torch.std_mean(given, dim=(2, 3, 4), unbiased=False, keepdim=True)
    np.testing.assert_allclose(normalize(tiles), (given - mean) / (std + 0.05), atol=1e-5)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "shape", "draw"),
    [("jigsaw_permutations", (6, 100), "permutation"), ("relative_patch", (6, 8, 8), "sides")],
)
def test_losses_are_torchs(name, shape, draw):
    torch = references.load("torch")
    made = method(name)
    batch = make_batch(made, 6)
    outputs = RNG.normal(0, 2, shape).astype(np.float32)
    theirs = torch.tensor(outputs, requires_grad=True)
    wanted = torch.tensor(batch[draw].astype(np.int64))
    expected = torch.nn.functional.cross_entropy(theirs.reshape(-1, shape[-1]), wanted.reshape(-1))
    expected.backward()
    context = Context(batch, None, None, {}, 0.0, {})
    value, gradient = jax.value_and_grad(lambda x: made.loss(x, context).mean())(outputs)
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-5, atol=1e-8)
    (values, weights), *others = made.metrics(jnp.asarray(outputs), context).values()
    right = outputs.argmax(axis=-1) == batch[draw]
    np.testing.assert_allclose(values / weights, right.reshape(6, -1).mean(axis=1))
    assert not others
    exact = np.asarray(jax.nn.one_hot(batch[draw], shape[-1]))
    assert [v.mean() for v, _ in made.metrics(exact, context).values()] == [1]


@pytest.fixture(scope="module")
def with_shortcuts(make_config):
    """A factory of tiny configs that measure shortcuts."""

    def make(name):
        config = make_config(f"{name},small_net").copy_and_resolve_references().unlock()
        config.method.shortcuts = True
        return config

    return make


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("jigsaw", {"without_gap", "with_normalization", "in_grey"}),
        ("jigsaw_permutations", {"without_gap", "without_normalization", "in_grey", "in_colour"}),
        ("relative_patch", {"without_gap", "with_normalization", "in_grey", "in_colour"}),
    ],
)
def test_shortcuts_are_measured_with_other_images_and_the_same_network(with_shortcuts, name, looks):
    """Against a method that shows its tiles so by itself."""
    run, batch = one_batch(with_shortcuts(name))
    batch["image"] = jax.random.randint(jax.random.key(0), batch["image"].shape, 0, 256, jnp.uint8)
    state = make_run_step(run, 7, jax.devices()[:1]).new_state()
    sums, _ = on_one_device(make_evaluation_step(run))(state.weights(), batch)
    made, metric = run.method, run.method.accuracy_metric
    assert set(made.looks()) == looks
    names = {key for key in sums if key.startswith(metric)}
    assert names == {metric, *(f"{metric}_{look}" for look in looks)}
    assert set(made.chance(np.zeros(1, int))) >= names
    network, given = run.evaluation_network(), variables(state.params, state.stats)
    for look in looks:
        other, images = made, batch
        if look == "without_gap":
            images = {key: batch[key] for key in batch if key not in ("offsets", "shifts")}
            other = dataclasses.replace(
                made, gap=0, **{"colour_shift": 0} if "shifts" in batch else {}
            )
            shown = np.array(other.show(images, other.look._replace(normalize=False)), np.float64)
            if name != "jigsaw":
                weights = shrinking(made.cell, made.tile_side)
                shown = np.einsum("ij,ntjkc,lk->ntilc", weights, shown, weights)
            if made.normalize_tiles:
                shown = normalize(jnp.asarray(shown, jnp.float32))
            outputs = network.apply(given, jnp.asarray(shown, jnp.float32), method=made.outputs)
        elif "normalization" in look:
            other = dataclasses.replace(made, normalize_tiles=look.startswith("with_"))
        else:
            images = {**batch, "grey": jnp.full(32, look == "in_grey")}
        if look != "without_gap":
            outputs = network.apply(given, other.inputs(images, None, False), method=made.outputs)
        context = Context(batch, None, None, {}, 0.0, {})
        values, _ = made.metrics(outputs, context)[metric]
        total, count, *_ = sums[f"{metric}_{look}"]
        assert total == pytest.approx(float(values[::4].sum()), abs=1e-4), look
        assert count == 8


def test_shortcuts_are_on_the_page_of_a_run_and_not_in_its_training(with_shortcuts, tmp_path):
    config = with_shortcuts("relative_patch")
    config.epochs = 1
    page = LivePage()
    train(config, tmp_path, after_validation=page.validated)
    rows = read_metrics(tmp_path)
    names = {f"accuracy_{look}" for look in ("without_gap", "with_normalization", "in_grey")}
    for row in rows:
        assert (names <= set(row)) == (row["kind"] == "validation")
    text = (tmp_path / "report.html").read_text()
    assert "accuracy without gap" in text
    assert "accuracy in grey" in text
