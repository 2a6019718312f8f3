"""Random masks of patches that consist of rectangular blocks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

_ATTEMPTS = 10  # to place a block, before the mask stays as it is
_LEAST_ASPECT = 0.3  # height / width of a block; the largest is 1 / 0.3


def block_mask(key: jax.Array, ratio: jax.Array, side: int) -> jax.Array:
    """Masks blocks until a share of the patches is masked, or no further block is found.

    A block has a random place, area and aspect ratio. At first it covers a ninth of the image at
    least. It never masks more patches than are left to mask.

    Source: Bao et al. (2022), "BEiT: BERT Pre-Training of Image Transformers", algorithm 1, with
    the constants of the official code of Zhou et al. (2022), "iBOT".

    Args:
      key: key[].
      ratio: float32[], the share of the patches to mask; with 0 none is masked.
      side: S, of the square grid of patches.

    Returns:
      bool[S²], row by row.
    """
    places = jnp.arange(side)
    least_area = (side // 3) ** 2
    wanted = ratio * side**2

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        mask, _, failures = state
        return (mask.sum() < wanted) & (failures < _ATTEMPTS)

    def attempt(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        mask, number, failures = state
        draws = jax.random.uniform(jax.random.fold_in(key, number), (4,))
        missing = wanted - mask.sum()
        area = least_area + draws[0] * (missing - least_area)
        aspect = jnp.exp((1 - 2 * draws[1]) * math.log(_LEAST_ASPECT))
        height, width = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
        top, left = (
            jnp.floor(draw * (side - length + 1))
            for draw, length in ((draws[2], height), (draws[3], width))
        )
        rows = (places >= top) & (places < top + height)
        columns = (places >= left) & (places < left + width)
        block = rows[:, None] & columns
        new = jnp.sum(block & ~mask)
        fits = (height < side) & (width < side) & (new > 0) & (new <= missing)
        return mask | (block & fits), number + 1, jnp.where(fits, 0, failures + 1)

    start = (jnp.zeros((side, side), bool), jnp.zeros((), int), jnp.zeros((), int))
    mask, _, _ = jax.lax.while_loop(unfinished, attempt, start)
    return mask.reshape(-1)
