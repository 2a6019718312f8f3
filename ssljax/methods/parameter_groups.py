"""Groups of parameters that are trained with another learning rate or weight decay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Parameters that a path pattern chooses, and factors for them.

    A parameter that several groups choose belongs to the last of them.

    Attributes:
      pattern: see `ssljax.models.paths.match`; it may match no parameter.
      learning_rate: multiplies the learning rate; a function is given the number of epochs done,
        float32[].
      weight_decay: multiplies the weight decay.
      scheduled: the learning rate follows the schedule; otherwise it stays what it is for the
        batch size, without warm-up or decay.
    """

    pattern: str
    learning_rate: float | Callable[[jax.Array], jax.Array] = 1.0
    weight_decay: float = 1.0
    scheduled: bool = True
