"""Gradients of parameters that are broadcast, in bfloat16 beside float32."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from ssljax.models.alexnet import AlexNet
from ssljax.models.decoder import MaskedDecoder
from ssljax.models.heads import MLP, Linear
from ssljax.models.patches import PatchEmbed
from ssljax.models.predictor import Predictor
from ssljax.models.transformer import dense
from ssljax.models.vit import ViTTiny

RNG = np.random.default_rng(0)
ROWS = 16_384

pytestmark = pytest.mark.quick


class Dense(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        return dense(x, 8, "dense", initializer="xavier", dtype=self.dtype)


def tokens(batch=1_024):
    """Inputs of MAE's decoder and I-JEPA's predictor: four of 16 patches."""
    return RNG.normal(size=(batch, 4, 16)).astype(np.float32)


def places(batch=1_024):
    return np.tile(np.arange(16, dtype=np.int32), (batch, 1))


MODULES = {
    "dense": (Dense, [RNG.normal(size=(ROWS, 4))]),
    "linear": (functools.partial(Linear, features=8), [RNG.normal(size=(ROWS, 4))]),
    "mlp": (functools.partial(MLP, sizes=(8, 8), norm=False), [RNG.normal(size=(ROWS, 4))]),
    "patch_embed": (
        functools.partial(PatchEmbed, 2, 8, "xavier"), [RNG.normal(size=(ROWS // 4, 4, 12))],
    ),
    "alexnet": (
        functools.partial(AlexNet, width=1 / 64, dropout=0.0), [RNG.normal(size=(64, 64, 64, 3))],
    ),
    "vit": (
        functools.partial(ViTTiny, initializer="xavier", width=1 / 12, depth=1, heads=1, patch=4),
        [RNG.normal(size=(1_024, 16, 16, 3))],
    ),
    "decoder": (
        functools.partial(MaskedDecoder, initializer="xavier", channels=16, depth=1, heads=1,
                          kept=4, outputs=8),
        [tokens(), places()],
    ),
    "predictor": (
        functools.partial(Predictor, initializer="xavier", channels=16, depth=1, heads=1, side=4),
        [tokens(), places()[:, :4], places()[:, None, 4:], np.ones((1_024, 1, 12), bool)],
    ),
}  # fmt: skip


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["dense", "decoder"])
def test_sums_over_many_places_do_not_stop_growing_in_bfloat16(name):
    make, inputs = MODULES[name]
    inputs = [np.asarray(x, np.float32) if x.dtype == np.float64 else x for x in inputs]
    params = jax.jit(make(dtype=jnp.float32).init)(jax.random.key(0), *inputs)

    def gradients(dtype):
        network = make(dtype=dtype)
        outputs = jax.eval_shape(network.apply, params, *inputs)
        # All outputs are pulled in one direction, as those of real images are in part.
        drawn = np.random.default_rng(1).uniform(0.5, 1.5, outputs.shape)
        pulls = jnp.asarray(drawn, outputs.dtype)

        @jax.jit
        def backward(pulls):
            return jax.vjp(lambda params: network.apply(params, *inputs), params)[1](pulls)[0]

        leaves, _ = jax.tree_util.tree_flatten_with_path(backward(pulls))
        return {jax.tree_util.keystr(path): np.asarray(leaf).ravel() for path, leaf in leaves}

    exact, rounded = gradients(jnp.float32), gradients(jnp.bfloat16)
    largest = max(np.linalg.norm(leaf) for leaf in exact.values())
    for path, leaf in exact.items():
        if np.linalg.norm(leaf) < 1e-3 * largest:
            continue  # rounding of the others is larger
        kept = rounded[path] @ leaf / (leaf @ leaf)
        assert kept == pytest.approx(1, abs=0.05), path


@pytest.mark.parametrize("name", MODULES)
def test_no_gradient_is_summed_over_examples_in_bfloat16(name):
    """Also where the compiler of this machine would compute the sum in float32 by itself."""
    make, inputs = MODULES[name]
    inputs = [np.asarray(x, np.float32) if x.dtype == np.float64 else x for x in inputs]
    network = make(dtype=jnp.bfloat16)
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs)

    def loss(params):
        return network.apply(params, *inputs).astype(jnp.float32).mean()

    sums = [
        equation.outvars[0].aval
        for equation in equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
        if equation.primitive.name in ("reduce_sum", "cumsum")
    ]
    assert sums
    assert not [found for found in sums if found.dtype == jnp.bfloat16]


def equations(jaxpr):
    """All equations, also those of loops and of functions that are called."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from equations(inner)
