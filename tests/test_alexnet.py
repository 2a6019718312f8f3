from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import check_model
from ssljax.models.backbone import keep_blocks_only
from ssljax.models.pooling import adaptive_average_pool, max_pool
from ssljax.settings.errors import InputError
from tests.networks import Classifier

RNG = np.random.default_rng(0)


def layers(params):
    """The layers of the backbone, and the head."""
    return [*params["backbone"].items(), ("head", params["head"])]


def test_it_has_torchvisions_parameters():
    shapes = Classifier(1000).shapes(227)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 61_100_840
    assert shapes["backbone"]["conv1"]["kernel"].shape == (11, 11, 3, 64)
    assert shapes["backbone"]["fc6"]["kernel"].shape == (9216, 4096)


@pytest.mark.parametrize("size", [64, 108, 224, 225, 226, 227, 300])
def test_fc6_keeps_its_shape_from_64_pixels_up(size):
    shapes = Classifier(3, width=0.0625).shapes(size)
    assert shapes["backbone"]["fc6"]["kernel"].shape == (36 * 16, 256)


def test_flax_initialiser():
    for name, layer in layers(Classifier(10, initializer="lecun_normal", width=0.5).init()):
        fan_in = np.prod(layer["kernel"].shape[:-1])
        assert not layer["bias"].any(), name
        assert np.asarray(layer["kernel"]).std() == pytest.approx(fan_in**-0.5, rel=0.02), name


def test_initial_weights_have_pytorchs_distribution():
    for name, layer in layers(Classifier(10, width=0.25).init()):
        fan_in = np.prod(layer["kernel"].shape[:-1])
        bound = 1 / np.sqrt(fan_in)
        weights = np.asarray(layer["kernel"]).ravel()
        assert np.abs(weights).max() <= bound, name
        assert np.abs(layer["bias"]).max() <= bound, name
        # Uniform: its standard deviation, within five standard errors (kurtosis 1.8).
        error = 5 * np.sqrt(0.2 / len(weights))
        assert weights.std() == pytest.approx(bound / np.sqrt(3), rel=error), name


@pytest.mark.parametrize("shape", [(2, 55, 55, 3), (1, 27, 26, 2), (1, 3, 4, 1)])
def test_max_pool_matches_xlas(shape):
    x = jnp.asarray(RNG.normal(size=shape), jnp.float32)

    def reference(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")

    np.testing.assert_array_equal(max_pool(x), reference(x))
    weights = jnp.asarray(RNG.normal(size=max_pool(x).shape), jnp.float32)
    gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) * weights))(x) for f in (max_pool, reference)]
    np.testing.assert_allclose(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 13])
def test_adaptive_pool_matches_a_plain_loop(size):
    x = RNG.normal(size=(2, size, size + 1, 3)).astype(np.float32)
    expected = np.empty((2, 6, 6, 3))
    for row, column in np.ndindex(6, 6):
        top, bottom = row * size // 6, -(-(row + 1) * size // 6)
        left, right = column * (size + 1) // 6, -(-(column + 1) * (size + 1) // 6)
        expected[:, row, column] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), 6), expected, atol=1e-6)


def test_dropout_depends_only_on_the_records_key():
    model = Classifier(3, width=0.0625)
    params = model.init()
    images = jnp.asarray(RNG.normal(size=(4, 64, 64, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 4)
    apply = jax.jit(model)
    whole = apply(params, images, keys)
    half = apply(params, images[2:], keys[2:])
    np.testing.assert_allclose(whole[2:], half, rtol=1e-5, atol=1e-6)
    assert not np.allclose(whole, apply(params, images))


def test_bfloat16_computes_roughly_the_same():
    images = jnp.asarray(RNG.normal(size=(2, 64, 64, 3)), jnp.float32)
    outputs = []
    for dtype in ("float32", "bfloat16"):
        model = Classifier(5, width=0.25, dtype=dtype)
        params = model.init()
        assert params["backbone"]["conv1"]["kernel"].dtype == jnp.float32
        outputs.append(jax.jit(model)(params, images))
        assert outputs[-1].dtype == jnp.float32
    np.testing.assert_allclose(*outputs, atol=0.02)


def test_recomputing_activations_changes_nothing():
    model = Classifier(3, width=0.0625)
    params, images = model.init(), jnp.asarray(RNG.normal(size=(2, 64, 64, 3)), jnp.float32)
    whole = jax.jit(jax.grad(lambda params: (model(params, images) ** 2).sum()))
    remat = jax.checkpoint(model, policy=keep_blocks_only())
    again = jax.jit(jax.grad(lambda params: (remat(params, images) ** 2).sum()))
    assert again.lower(params).as_text().count("convolution") > whole.lower(params).as_text().count(
        "convolution"
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        whole(params),
        again(params),
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "alexnett"}, "did you mean 'alexnet'"),
        ({"name": "alexnet", "widht": 1.0}, "did you mean 'width'"),
        ({"name": "alexnet", "dtype": "float16"}, "model.dtype must be one of .*float16"),
        ({"name": "alexnet", "initializer": "lecun"}, "model.initializer must be one of"),
        ({"name": "alexnet", "dropout": 1.0}, "model.dropout must be < 1, got 1.0"),
        ({"name": "alexnet", "width": float("nan")}, "model.width must be > 0, got nan"),
    ],
)
def test_mistakes_are_named(config, said):
    with pytest.raises(InputError, match=said):
        check_model(config)
