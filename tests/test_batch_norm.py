"""Batch normalisation against PyTorch's, on one device and on four."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.batch_norm import COLLECTION, BatchNorm
from ssljax.models.collectives import AXIS
from tests import references

torch = references.load("torch")
pytestmark = [pytest.mark.reference, pytest.mark.quick]


def first(tree):
    """What the first of the devices has."""
    return jax.tree.map(lambda x: x[0], tree)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("size", [1, 5])
def test_outputs_gradients_and_running_statistics(devices, size):
    """Three batches of 8 maps of size × size pixels, then a batch with the running statistics."""
    rng = np.random.default_rng(0)
    batches = rng.normal(2, 3, (4, 8, size, size, 6)).astype(np.float32)
    goals = rng.normal(size=batches.shape).astype(np.float32)
    scale, bias = rng.normal(size=(2, 6)).astype(np.float32)
    theirs = torch.nn.BatchNorm2d(6)
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(scale))
        theirs.bias.copy_(torch.from_numpy(bias))
    params = {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}
    stats = {"mean": jnp.zeros(6), "var": jnp.ones(6)}

    def step(params, stats, images, goals):
        def loss(params, images):
            outputs, changed = BatchNorm(batch_statistics=True).apply(
                {"params": params, COLLECTION: stats}, images, mutable=[COLLECTION]
            )
            return jnp.sum(outputs * goals), (outputs, changed[COLLECTION])

        of_both = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (of_params, of_images), (outputs, changed) = of_both(params, images)
        return jax.lax.psum(of_params, AXIS), of_images, outputs, changed

    on_devices = jax.pmap(step, AXIS, in_axes=(None, None, 0, 0), devices=jax.devices()[:devices])
    for images, goal in zip(batches[:3], goals[:3], strict=True):
        parts = (x.reshape(devices, -1, *x.shape[1:]) for x in (images, goal))
        of_params, of_images, outputs, changed = on_devices(params, stats, *parts)
        stats = first(changed)
        given = torch.from_numpy(images).permute(0, 3, 1, 2).requires_grad_()
        theirs.zero_grad()
        expected = theirs(given)
        (expected * torch.from_numpy(goal).permute(0, 3, 1, 2)).sum().backward()
        for ours, other in (
            (outputs.reshape(images.shape), expected.detach().permute(0, 2, 3, 1)),
            (of_images.reshape(images.shape), given.grad.permute(0, 2, 3, 1)),
            (first(of_params)["scale"], theirs.weight.grad),
            (first(of_params)["bias"], theirs.bias.grad),
            (stats["mean"], theirs.running_mean),
            (stats["var"], theirs.running_var),
        ):
            np.testing.assert_allclose(ours, other.numpy(), rtol=1e-4, atol=2e-5)
    theirs.eval()
    ours = BatchNorm(batch_statistics=False).apply(
        {"params": params, COLLECTION: stats}, batches[3]
    )
    expected = theirs(torch.from_numpy(batches[3]).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-4, atol=2e-5)
