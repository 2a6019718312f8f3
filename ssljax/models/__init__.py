"""The models by name. A new one is a file beside this one and a line in the table.

A model is a linen module with the fields `num_outputs`, `dtype` and its own options. Calling it
with float32[B, S, S, 3] images, and with one random key per example where there is dropout, gives
float32[B, num_outputs]; its method `activations` gives every layer's output by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.config import same_kind
from ssljax.errors import InputError, nearest
from ssljax.models.alexnet import AlexNet

MODELS: dict[str, type[nn.Module]] = {
    "alexnet": AlexNet,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SMALLEST_IMAGE = 64


def make_model(config: Mapping[str, Any], num_outputs: int) -> nn.Module:
    """Makes the model that `config.model` describes: its `name`, `dtype` and options of its own.

    dtype `auto` is bfloat16 on GPU and TPU and float32 on CPU, where XLA's bfloat16 is slower.

    Raises:
      InputError: an unknown name, option or dtype.
    """
    given = dict(config)
    name, dtype = given.pop("name", ""), given.pop("dtype", "auto")
    if name not in MODELS:
        raise InputError(f"model.name: unknown model {name!r}; {nearest(name, list(MODELS))}")
    if dtype == "auto":
        dtype = automatic_dtype(jax.default_backend())
    if dtype not in DTYPES:
        raise InputError(f"model.dtype: {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    known = {
        key: field.default
        for key, field in MODELS[name].__dataclass_fields__.items()
        if key not in ("num_outputs", "dtype", "parent", "name")
    }
    for key, value in given.items():
        if key not in known:
            raise InputError(f"model.{key}: {name} has no such option; {nearest(key, list(known))}")
        if not same_kind(value, known[key]):
            raise InputError(f"model.{key}: expected {type(known[key]).__name__}, got {value!r}")
    return MODELS[name](num_outputs=num_outputs, dtype=DTYPES[dtype], **given)


def automatic_dtype(platform: str) -> str:
    """What dtype `auto` is on `cpu`, `gpu` or `tpu`."""
    return "float32" if platform == "cpu" else "bfloat16"
