from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ssljax.devices import cpu_compiler

pytestmark = pytest.mark.quick


def test_only_reductions_are_computed_by_ynnpack():
    """The flag is experimental: if XLA loses or renames it, this says so."""
    options = cpu_compiler.options(1, without_ynnpack=True)
    assert options.keys() < cpu_compiler.options(2, without_ynnpack=True).keys()
    assert not cpu_compiler.options(1, without_ynnpack=False)

    def uses_ynnpack(function, *arguments) -> bool:
        compiled = jax.jit(function, compiler_options=options).lower(*arguments).compile()
        return "ynn_fusion" in compiled.as_text()

    images, kernel = jnp.ones((64, 32, 32, 16)), jnp.ones((3, 3, 16, 16))

    def convolve(kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=layout
        ).sum()

    assert uses_ynnpack(lambda x: x.sum((0, 1, 2)), images)
    assert not uses_ynnpack(jax.grad(convolve), kernel)
