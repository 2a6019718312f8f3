from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.winograd import saves, winograd
from tests.networks import Classifier

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolution_and_gradients(function, images, kernel, cotangent):
    outputs, gradients = jax.vjp(function, images, kernel)
    return outputs, *gradients(cotangent)


@pytest.mark.parametrize(
    ("height", "width", "channels", "outputs", "size", "padding"),
    [
        (13, 13, 96, 64, 3, ((1, 1), (1, 1))),
        (27, 27, 64, 48, 5, ((2, 2), (2, 2))),
        (14, 9, 5, 7, 3, ((0, 0), (0, 0))),
        (7, 30, 3, 2, 5, ((0, 3), (4, 1))),
        (3, 5, 2, 3, 5, ((3, 3), (0, 0))),
        (1, 2, 1, 1, 3, ((1, 1), (1, 1))),
    ],
)
def test_it_is_the_convolution(height, width, channels, outputs, size, padding):
    """Outputs and gradients in float32, against XLA's convolution in float64."""
    images = RNG.normal(size=(3, height, width, channels))
    kernel = RNG.normal(size=(size, size, channels, outputs))
    direct = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding=padding,
        dimension_numbers=LAYOUT,
    )
    cotangent = RNG.normal(size=jax.eval_shape(direct, images, kernel).shape)
    with jax.enable_x64(True):
        exact = jax.jit(functools.partial(convolution_and_gradients, direct))(
            images, kernel, cotangent
        )
    ours = jax.jit(
        functools.partial(convolution_and_gradients, functools.partial(winograd, padding=padding))
    )(*(x.astype(np.float32) for x in (images, kernel, cotangent)))
    for found, expected in zip(ours, exact, strict=True):
        assert found.dtype == jnp.float32
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=2e-5 * scale, rtol=0)


def convolutions(platform: str, dtype: str, width: float, size: int) -> int:
    """How many of AlexNet's five are XLA's own when it is compiled for the platform."""
    model = Classifier(2, dtype=dtype, width=width)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    params = model.shapes(size)
    lowered = jax.jit(model).trace(params, images).lower(lowering_platforms=(platform,))
    return lowered.as_text().count("stablehlo.convolution")


@pytest.mark.parametrize(
    ("platform", "dtype", "width", "size", "direct"),
    [
        ("cpu", "float32", 1, 225, 1),
        ("cpu", "float32", 0.125, 108, 5),
        ("cpu", "bfloat16", 1, 225, 5),
        ("cuda", "float32", 1, 225, 5),
        ("tpu", "float32", 1, 225, 5),
    ],
)
def test_large_float32_layers_on_cpu_use_it(platform, dtype, width, size, direct):
    assert convolutions(platform, dtype, width, size) == direct


def test_small_kernels_and_other_shapes_are_xlas():
    images, padding = (2, 27, 27, 64), ((2, 2), (2, 2))
    assert saves(images, (5, 5, 64, 64), padding)
    for size in (1, 2, 4, 7):
        assert not saves(images, (size, size, 64, 64), padding)
    assert not saves(images, (3, 5, 64, 64), padding)
