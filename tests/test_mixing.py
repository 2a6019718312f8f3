"""Mixup and CutMix against a plain loop and timm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.settings.errors import InputError
from ssljax.views import mixing
from ssljax.views.keys import record_keys
from tests import references
from tests.plain_sgd import assert_same, run_sgd


def draw(mixup, cutmix, count=2000, side=8, records=None):
    records = np.arange(count) if records is None else records
    images = jax.random.uniform(jax.random.key(0), (len(records), side, side, 1))
    keys = record_keys(0, 0, jnp.asarray(records))
    return images, *jax.jit(mixing.mix, static_argnums=(2, 3))(images, keys, mixup, cutmix)


@pytest.mark.quick
def test_partners_are_the_rows_of_a_pair():
    assert mixing.partners(jnp.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]


def test_blended_images_have_the_shares_of_a_beta_distribution():
    images, mixed, share = draw(0.8, 0)
    expected = share[:, None, None, None] * images + (1 - share)[:, None, None, None] * (
        images.reshape(-1, 2, 8, 8, 1)[:, ::-1].reshape(images.shape)
    )
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    assert np.array_equal(share[::2], share[1::2])
    assert scipy.stats.kstest(share[::2], scipy.stats.beta(0.8, 0.8).cdf).pvalue > 0.01


def test_cut_images_are_those_of_a_loop():
    images, mixed, share = draw(0, 1.0, 200, 16)
    for index in range(200):
        other = images[index ^ 1]
        from_other = np.asarray(mixed[index] == other)[..., 0]
        rows, columns = np.flatnonzero(from_other.any(1)), np.flatnonzero(from_other.any(0))
        inside = np.zeros((16, 16), bool)
        if len(rows):
            inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert np.array_equal(from_other, inside)  # one rectangle
        np.testing.assert_array_equal(
            mixed[index], np.where(inside[..., None], other, images[index])
        )
        assert share[index] == pytest.approx(1 - inside.mean(), abs=1e-6)


@pytest.mark.reference
def test_rectangles_are_timms():
    mixup = references.load("timm.data.mixup")
    rng = np.random.default_rng(0)
    for _ in range(50):
        area, size = rng.uniform(), (24, 32)
        state = np.random.get_state()  # timm draws from the global generator
        np.random.seed(int(rng.integers(1000)))
        top, bottom, left, right = mixup.rand_bbox((1, 3, *size), 1 - area)
        np.random.set_state(state)
        height, width = (int(np.sqrt(area) * side) // 2 for side in size)
        if not (top and left and bottom < size[0] and right < size[1]):
            continue  # cut off at the border, which hides the centre
        centre = jnp.array([(top + height + 0.5) / size[0], (left + width + 0.5) / size[1]])
        ours = mixing.rectangle(centre, jnp.float32(area), size)
        expected = np.zeros(size)
        expected[top:bottom, left:right] = 1
        np.testing.assert_array_equal(ours, expected)


def test_each_pair_is_mixed_by_one_of_both():
    _, mixed, _ = draw(1.0, 1.0)
    images, *_ = draw(1.0, 1.0)
    untouched = np.isclose(mixed, images).reshape(1000, -1).any(axis=1)  # only cut images have any
    assert 0.4 < untouched.mean() < 0.6


def test_a_pair_is_mixed_in_the_same_way_in_any_batch():
    _, _, share = draw(0.8, 1.0, 64)
    _, _, other = draw(0.8, 1.0, records=np.arange(32, 48))
    assert np.array_equal(other, share[32:48])


@pytest.mark.reference
def test_the_loss_is_timms():
    torch, mixup = references.load("torch"), references.load("timm.data.mixup")
    losses = references.load("timm.loss")
    method = make_method(
        {"name": "classification", "mixup": 0.8, "label_smoothing": 0.1}, DataSpec(8, num_classes=5)
    )
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 5)).astype("f"), rng.integers(0, 5, 6)
    share = np.repeat(rng.random(3), 2).astype("f")
    inputs = {"images": jnp.zeros((6, 8, 8, 3)), "share": jnp.asarray(share)}
    context = Context({"label": jnp.asarray(labels)}, inputs, None, {}, jnp.ones(()), {})
    ours = method.loss(jnp.asarray(logits), context)
    for index in range(6):
        pair = torch.tensor([labels[index], labels[index ^ 1]])
        target = mixup.mixup_target(pair, 5, lam=float(share[index]), smoothing=0.1)
        # timm pairs an image with the one at the mirrored place.
        loss = losses.SoftTargetCrossEntropy()(torch.tensor(logits[index : index + 1]), target[:1])
        assert float(ours[index]) == pytest.approx(loss.item(), abs=1e-5)


def test_devices_mix_the_same_pairs(make_config):
    config = make_config("classification,small_net").copy_and_resolve_references().unlock()
    config.method.mixup, config.method.cutmix = 0.8, 1.0
    assert_same(run_sgd(config, "jit", 2), run_sgd(config, "jit", 1))
    config.batch_size = 36
    with pytest.raises(
        InputError, match="9 images are on each device in each micro-batch, .* a multiple of 2"
    ):
        run_sgd(config, "jit", 4)
