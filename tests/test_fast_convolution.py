"""Which convolutions are XLA's own, and that the others compute the same."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.fast_convolution import convolution, product_of_patches

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def arrays(side, kernel, channels=16, outputs=8):
    images = RNG.normal(size=(3, side, side, channels)).astype(np.float32)
    return images, RNG.normal(size=(kernel, kernel, channels, outputs)).astype(np.float32)


@pytest.mark.parametrize(
    ("side", "kernel", "strides", "padding"),
    [
        (2, 3, (1, 1), ((1, 1), (1, 1))),
        (4, 3, (2, 2), ((1, 1), (1, 1))),
        (4, 1, (2, 2), ((0, 0), (0, 0))),
        (1, 3, (1, 1), ((1, 1), (1, 1))),
        (5, 3, (2, 3), ((0, 1), (2, 0))),
    ],
)
def test_products_of_patches_are_convolutions(side, kernel, strides, padding):
    given = arrays(side, kernel)
    direct = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=strides, padding=padding, dimension_numbers=LAYOUT,
    )  # fmt: skip
    patches = functools.partial(product_of_patches, strides=strides, padding=padding)
    (expected, of_expected), (found, of_found) = (jax.vjp(f, *given) for f in (direct, patches))
    cotangent = RNG.normal(size=expected.shape).astype(np.float32)
    for ours, theirs in zip(
        (found, *of_found(cotangent)), (expected, *of_expected(cotangent)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def xlas(platform, side, dtype=jnp.float32, strides=(1, 1), **options):
    """Whether a convolution with a 3×3 kernel is XLA's own."""

    def function(images, kernel):
        padding = ((1, 1), (1, 1))
        return convolution(images, kernel, strides, padding, dimension_numbers=LAYOUT, **options)

    given = (x.astype(dtype) for x in arrays(side, 3))
    lowered = jax.jit(function).trace(*given).lower(lowering_platforms=(platform,))
    return "stablehlo.convolution" in lowered.as_text()


def test_maps_of_few_pixels_are_products_on_a_cpu():
    assert not xlas("cpu", 2)
    assert not xlas("cpu", 4, strides=(2, 2))
    assert xlas("cpu", 3)
    assert xlas("cpu", 2, jnp.bfloat16)
    assert xlas("cuda", 2)
    assert xlas("tpu", 2)


@pytest.mark.parametrize(
    ("strides", "options"),
    [
        ((2, 2), {}),
        ((1, 2), {}),
        ((1, 1), {"rhs_dilation": (2, 2)}),
        ((1, 1), {"lhs_dilation": (1, 2)}),
        ((1, 1), {"feature_group_count": 2}),
    ],
)
def test_other_convolutions_are_xlas(strides, options):
    images, kernel = arrays(27, 5, 64, 64)
    weights = kernel[:, :, :32] if "feature_group_count" in options else kernel
    padding = ((2, 2), (2, 2))
    np.testing.assert_array_equal(
        convolution(images, weights, strides, padding, dimension_numbers=LAYOUT, **options),
        jax.lax.conv_general_dilated(
            images, weights, strides, padding, dimension_numbers=LAYOUT, **options
        ),
    )
