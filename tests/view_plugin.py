"""A method that compares two views, for tests: `--plugin`."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp

from ssljax.methods import METHODS
from ssljax.methods.view_method import ViewMethod
from ssljax.models.heads import Linear
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agree(ViewMethod):
    views: str = option("simclr_small_one_channel", "recipe")

    def heads(self):
        return {"head": functools.partial(Linear, features=4)}

    def loss(self, outputs, context):
        apart = ((outputs[:, 0] - outputs[:, 1]) ** 2).mean(axis=-1)
        return apart + ((outputs**2).mean(axis=(1, 2)) - 1) ** 2

    def metrics(self, outputs, context):
        size = jnp.abs(outputs).mean(axis=(1, 2))
        return {"size": (size, jnp.ones_like(size))}


METHODS["agree"] = Agree
