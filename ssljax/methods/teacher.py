"""How fast a teacher follows."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def rising_momentum(first: float, progress: jax.Array) -> jax.Array:
    """The share of its weights that a teacher keeps, from `first` to 1 along half a cosine.

    Source: Grill et al. (2020), "Bootstrap Your Own Latent", "Implementation details".

    Args:
      first: at the first step.
      progress: float32[], the share of training that is done.
    """
    return 1 - (1 - first) * (1 + jnp.cos(math.pi * progress)) / 2
