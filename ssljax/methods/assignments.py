"""Assignments of images to prototypes: how they are balanced, and whether they collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ssljax.methods.method import BatchMetric, Metrics
from ssljax.models import collectives


def sinkhorn(
    scores: jax.Array, weights: jax.Array, epsilon: float, iterations: int = 3
) -> jax.Array:
    """Soft assignments whose rows sum to 1 and whose columns are about equally heavy.

    Source: Caron et al. (2020), "Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments", section 3.1, after Cuturi (2013), "Sinkhorn Distances".

    Args:
      scores: float32[N, K], of N images and K prototypes.
      weights: float32[N], 1 for images that count and 0 for others.
      epsilon: the smoothness; smaller is closer to hard assignments.
      iterations: of the algorithm.

    Returns:
      float32[N, K]; 0 for images that do not count.
    """
    # Subtracting a constant changes nothing after the first normalisation.
    codes = jnp.exp((scores - scores.max()) / epsilon) * weights[:, None]
    codes /= codes.sum()
    for _ in range(iterations):
        codes /= jnp.maximum(codes.sum(axis=0), 1e-30) * codes.shape[1]
        codes /= jnp.maximum(codes.sum(axis=1, keepdims=True), 1e-30) * weights.sum()
    return codes * weights.sum()


def entropies(probabilities: jax.Array, mask: jax.Array) -> Metrics:
    """How decided the assignments are, and how many prototypes they use; both from 0 to 1.

    Args:
      probabilities: float32[B, V, K], of an image's views over the prototypes.
      mask: bool[B], the examples that count.

    Returns:
      assignment_entropy: of a view's assignment, divided by ln K; 1 is uniform.
      prototype_entropy: of the mean assignment of the batch, divided by ln K; 0 is a single
        prototype.
    """
    counts = mask.astype(jnp.float32)
    counts /= collectives.mean(counts.mean())
    mean = collectives.mean(
        jnp.einsum("b,bvk->k", counts, probabilities) / math.prod(probabilities.shape[:2])
    )
    own, ones = _entropy(probabilities).mean(axis=1), jnp.ones(len(probabilities))
    return {
        "assignment_entropy": (own, ones),
        "prototype_entropy": BatchMetric(_entropy(mean) * ones, ones),
    }


def _entropy(probabilities: jax.Array) -> jax.Array:
    """Over the last axis, divided by that of uniform probabilities."""
    logarithms = jnp.log(jnp.maximum(probabilities, 1e-30))
    entropy = jnp.maximum(-jnp.sum(probabilities * logarithms, axis=-1), 0)
    return entropy / math.log(probabilities.shape[-1])


def concerns(metrics: Mapping[str, float], reasons: str) -> list[str]:
    """Says if all images have the same assignment."""
    used = metrics.get("prototype_entropy", 1.0)
    if used < 0.1:
        return [
            f"the assignments have collapsed: prototype_entropy is {used:.3f} (0: one prototype "
            f"for all images); likely {reasons}"
        ]
    undecided = metrics.get("assignment_entropy", 0.0)
    if undecided > 0.995:
        return [
            f"the assignments have collapsed: assignment_entropy is {undecided:.3f} (1: all "
            f"prototypes for every image); likely {reasons}"
        ]
    return []
