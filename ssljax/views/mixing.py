"""Mixes pairs of images of a batch, and says how much of each is left.

Rows 2i and 2i + 1 of a batch are a pair: batches are in random order, and both rows are on the same
device. What is drawn depends only on the record of the first row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ssljax.views import keys as streams


def partners(values: jax.Array) -> jax.Array:
    """What the other row of each pair has: [B, …], B is even."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def mix(
    images: jax.Array, keys: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes the images of each pair.

    Mixup takes λ of an image and 1 - λ of its partner (Zhang et al., 2018, "mixup: Beyond Empirical
    Risk Minimization"). CutMix takes a rectangle of the partner, whose share of the area is about
    1 - λ, as far as it is inside of the image (Yun et al., 2019, "CutMix", section 3.1). λ is drawn
    from Beta(α, α). If both are enabled, each pair uses one of the two at random, as in timm.

    Args:
      images: float32[B, H, W, C]; B is even.
      keys: key[B], of the records.
      mixup: its α; 0 does not use it.
      cutmix: its α; 0 does not use it.

    Returns:
      float32[B, H, W, C], and float32[B]: the share of the image itself, which its label gets.
    """
    own = streams.fold_in(keys[::2], streams.MIXING)
    size = (images.shape[1], images.shape[2])
    draw = jax.vmap(lambda key: _draw(key, size, mixup, cutmix))
    kept, share = (jnp.repeat(each, 2, axis=0) for each in draw(own))
    return kept * images + (1 - kept) * partners(images), share


def _draw(
    key: jax.Array, size: tuple[int, int], mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """What is kept of each pixel, float32[H, W, 1], and its mean, float32[]."""
    which, of_mixup, of_cutmix, of_place = jax.random.split(key, 4)
    blend = jax.random.beta(of_mixup, mixup or 1.0, mixup or 1.0)
    area = 1 - jax.random.beta(of_cutmix, cutmix or 1.0, cutmix or 1.0)
    kept = 1 - rectangle(jax.random.uniform(of_place, (2,)), area, size)
    probability = 0.5 if mixup and cutmix else float(bool(mixup))
    blends = jax.random.bernoulli(which, probability)
    kept = jnp.where(blends, jnp.full_like(kept, 1) * blend, kept)[..., None]
    return kept, jnp.mean(kept)


def rectangle(centre: jax.Array, area: jax.Array, size: tuple[int, int]) -> jax.Array:
    """float32[H, W]: 1 inside of a rectangle of an image's shape, 0 elsewhere.

    Args:
      centre: float32[2] in [0, 1), as shares of the height and the width.
      area: float32[], its share of the image's area, before it is cut off at the border.
      size: of the image.
    """
    inside = []
    for axis, (middle, pixels) in enumerate(zip(centre, size, strict=True)):
        place = jnp.floor(middle * pixels)
        side = jnp.floor(jnp.sqrt(area) * pixels)
        index = jnp.arange(pixels)
        within = (index >= place - side // 2) & (index < place + (side + 1) // 2)
        inside.append(jnp.expand_dims(within, 1 - axis))
    return (inside[0] & inside[1]).astype(jnp.float32)
