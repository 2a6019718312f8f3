"""Layers whose gradients are written out, against PyTorch's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import dense_product
from ssljax.models.gelu import gelu
from ssljax.models.layer_norm import normalize
from tests import references

torch = references.load("torch")
pytestmark = [pytest.mark.reference, pytest.mark.quick]


def normalize_in_torch(x, scale, bias):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), scale, bias, eps=1e-6)


CASES = {
    "gelu": (gelu, torch.nn.functional.gelu, [(3, 5, 200)]),
    "layer normalisation": (normalize, normalize_in_torch, [(3, 5, 32), (32,), (32,)]),
    "more outputs": (dense_product.dot_general, torch.matmul, [(3, 5, 8), (8, 20)]),
    "fewer outputs": (dense_product.dot_general, torch.matmul, [(3, 5, 20), (20, 8)]),
    "a matrix": (dense_product.dot_general, torch.matmul, [(5, 8), (8, 20)]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients_are_pytorchs(case, compiled):
    ours, theirs, shapes = CASES[case]
    rng = np.random.default_rng(0)
    # Also far from 0, where GELU is flat.
    given = [(3 * rng.normal(0.5, 1, shape)).astype(np.float32) for shape in shapes]

    def run(*arrays):
        outputs, back = jax.vjp(ours, *arrays)
        return outputs, back(cotangent)

    tensors = [torch.tensor(array, requires_grad=True) for array in given]
    expected = theirs(*tensors)
    cotangent = rng.normal(size=expected.shape).astype(np.float32)
    expected.backward(torch.from_numpy(cotangent))
    outputs, gradients = (jax.jit(run) if compiled else run)(*given)
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-5, atol=1e-5)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_have_the_dtypes_of_what_they_belong_to(case):
    ours, _, shapes = CASES[case]
    dtypes = [jnp.bfloat16, *[jnp.float32] * 2] if ours is normalize else [jnp.bfloat16] * 2
    given = [jnp.ones(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=False)]
    outputs, back = jax.vjp(ours, *given)
    assert [x.dtype for x in back(outputs)] == [x.dtype for x in given]
