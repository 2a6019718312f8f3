from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.errors import InputError
from ssljax.models import make_model
from ssljax.models.alexnet import adaptive_average_pool, max_pool

RNG = np.random.default_rng(0)


def init(model, size=227):
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]


def test_it_has_torchvisions_parameters():
    model = make_model({"name": "alexnet"}, num_outputs=1000)
    shapes = jax.eval_shape(lambda: init(model))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 61_100_840
    assert shapes["conv1"]["kernel"].shape == (11, 11, 3, 64)
    assert shapes["fc6"]["kernel"].shape == (9216, 4096)


@pytest.mark.parametrize("size", [64, 108, 224, 225, 226, 227, 300])
def test_fc6_keeps_its_shape_from_64_pixels_up(size):
    model = make_model({"name": "alexnet", "width": 0.0625}, num_outputs=3)
    assert jax.eval_shape(lambda: init(model, size))["fc6"]["kernel"].shape == (36 * 16, 256)


def test_flax_initialiser():
    params = init(
        make_model({"name": "alexnet", "initializer": "lecun_normal"}, num_outputs=10), 64
    )
    for name, layer in params.items():
        fan_in = np.prod(layer["kernel"].shape[:-1])
        assert not layer["bias"].any(), name
        assert np.asarray(layer["kernel"]).std() == pytest.approx(fan_in**-0.5, rel=0.02), name
    with pytest.raises(InputError, match="model.initializer: unknown 'lecun'; .*lecun_normal"):
        init(make_model({"name": "alexnet", "initializer": "lecun"}, num_outputs=10), 64)


def test_initial_weights_have_pytorchs_distribution():
    params = init(make_model({"name": "alexnet", "width": 0.25}, num_outputs=10), 64)
    for name, layer in params.items():
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


def test_dropout_hangs_on_the_examples_key_alone():
    model = make_model({"name": "alexnet", "width": 0.0625}, num_outputs=3)
    params = {"params": init(model, 64)}
    images = jnp.asarray(RNG.normal(size=(4, 64, 64, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 4)
    apply = jax.jit(model.apply)
    whole = apply(params, images, keys)
    half = apply(params, images[2:], keys[2:])
    np.testing.assert_allclose(whole[2:], half, rtol=1e-5, atol=1e-6)
    assert not np.allclose(whole, apply(params, images))


def test_bfloat16_computes_roughly_the_same():
    images = jnp.asarray(RNG.normal(size=(2, 64, 64, 3)), jnp.float32)
    outputs = []
    for dtype in ("float32", "bfloat16"):
        model = make_model({"name": "alexnet", "width": 0.25, "dtype": dtype}, num_outputs=5)
        params = init(model, 64)
        assert params["conv1"]["kernel"].dtype == jnp.float32
        outputs.append(jax.jit(model.apply)({"params": params}, images))
        assert outputs[-1].dtype == jnp.float32
    np.testing.assert_allclose(*outputs, atol=0.02)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "alexnett"}, "did you mean 'alexnet'"),
        ({"name": "alexnet", "widht": 1.0}, "did you mean 'width'"),
        ({"name": "alexnet", "dtype": "float16"}, "model.dtype: 'float16' is not one of"),
    ],
)
def test_mistakes_are_named(config, said):
    with pytest.raises(InputError, match=said):
        make_model(config, num_outputs=2)
