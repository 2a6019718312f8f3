"""Layers whose biases stay in float32.

A bias is broadcast, so its gradient is a sum over all examples and places, in the dtype in which it
is added. In bfloat16 a sum of many terms stops growing: a term that is less than half of the sum's
last bit is lost. So parameters that are broadcast are added in float32, and the result is rounded.
"""

from __future__ import annotations

from typing import Any

import jax
from flax.linen import dtypes


def promote_dtype(
    *args: jax.Array | None, dtype: Any = None, inexact: bool = True
) -> list[jax.Array | None]:
    """For the attribute `promote_dtype` of `nn.Dense` and `nn.Conv`; the bias is left as it is.

    The layer's output is then float32, and is to be cast.

    Args:
      args: the inputs, the kernel and the bias.
      dtype: of the product.
      inexact: see `flax.linen.dtypes.promote_dtype`.
    """
    inputs, kernel, bias = args
    return [*dtypes.promote_dtype(inputs, kernel, dtype=dtype, inexact=inexact), bias]
