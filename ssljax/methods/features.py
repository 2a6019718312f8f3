"""No training: a backbone that others have trained, without a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from ssljax.methods.method import Context, Method, Metrics, Tree
from ssljax.settings.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features(Method):
    """The method of a run that `weights import` makes of a file without a last layer."""

    def heads(self) -> dict[str, Callable[..., Any]]:
        """None."""
        return {}

    def outputs(self, net: Any, inputs: Tree) -> jax.Array:
        """[B, D]: the features."""
        features: jax.Array = net.backbone(inputs)
        return features

    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """There is none.

        Raises:
          InputError: always.
        """
        raise InputError(
            "method.name: imported weights without a head have no loss; use their features, probe "
            "them, or start from them with --config.init_from"
        )

    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """None."""
        return {}
