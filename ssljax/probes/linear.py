"""Linear classification: multinomial logistic regression on standardised features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.probes.features import LabelledFeatures

# What the squared weights are multiplied by: mean loss + L2 · Σ weights².
L2S = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
TOLERANCE = 1e-5  # of the largest entry of the gradient
PATIENCE = 3  # values of L2 that are worse than the best before, since it was found


class Regression(NamedTuple):
    """A fitted classifier of standardised features.

    Attributes:
      weights: float32[D, K].
      biases: float32[K].
    """

    weights: np.ndarray
    biases: np.ndarray


class Standardisation:
    """Subtracts the mean of each feature, and divides by its standard deviation."""

    def __init__(self, values: np.ndarray):
        """Takes float32[N, D]; a feature that is the same for all images is not divided."""
        mean, deviation = (
            values.mean(axis=0, dtype=np.float64),
            values.std(axis=0, dtype=np.float64),
        )
        scale = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1)
        self._mean, self._scale = mean.astype(np.float32), scale.astype(np.float32)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """float32[N, D]."""
        return (values - self._mean) / self._scale


def make_fit(
    values: np.ndarray, labels: np.ndarray, classes: int
) -> Callable[[float, Regression | None], Regression]:
    """Copies examples to a device, and returns a function that fits a classifier to them.

    It minimises the mean cross-entropy + `l2` · the sum of squared weights, until no entry of the
    gradient is larger than `TOLERANCE` or rounding hides that the loss falls, but for at most 1,000
    iterations. Biases are not regularised. scikit-learn's `LogisticRegression` has the same minimum
    with C = 1 / (2 · l2 · N).

    Source: L-BFGS is SciPy's (Zhu, Byrd, Lu and Nocedal, 1997, "Algorithm 778: L-BFGS-B").

    Args:
      values: float32[N, D], standardised.
      labels: int[N].
      classes: their number, K; some may have no examples.

    Returns:
      `(l2, start) -> Regression`; `start` is where the search begins, None is at zero.
    """
    size = values.shape[1]
    # Features in rows: with few classes, the products are several times as fast.
    columns, classes_of = jax.device_put((np.ascontiguousarray(values.T), labels.astype(np.int32)))

    def split(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights, biases = np.split(flat.astype(np.float32), [size * classes])
        return weights.reshape(size, classes), biases

    def fit(l2: float, start: Regression | None = None) -> Regression:
        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights, biases = split(flat)
            losses, (of_weights, of_biases) = _losses_and_gradient(
                weights, biases, columns, classes_of, l2
            )
            # In float64. Near the minimum, a step changes the loss by less than float32 shows, and
            # the search would end too early.
            loss = np.asarray(losses).mean(dtype=np.float64)
            loss += l2 * np.square(weights, dtype=np.float64).sum()
            both = np.concatenate([np.asarray(of_weights).ravel(), np.asarray(of_biases)])
            return float(loss), both.astype(np.float64)

        import scipy.optimize  # takes half a second, also of runs without probes

        zeros = np.zeros((size + 1) * classes)
        first = np.concatenate([start.weights.ravel(), start.biases]) if start else zeros
        found = scipy.optimize.minimize(
            loss_and_gradient,
            first,
            jac=True,
            method="L-BFGS-B",
            options={"gtol": TOLERANCE, "ftol": 0, "maxiter": 1000, "maxls": 50},
        )
        return Regression(*split(found.x))

    return fit


@jax.jit
def _losses_and_gradient(
    weights: jax.Array, biases: jax.Array, columns: jax.Array, labels: jax.Array, l2: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Of features float32[D, N] and labels int32[N]: float32[N], and the objective's gradient."""

    def loss(weights: jax.Array, biases: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = jnp.matmul(weights.T, columns, precision="highest") + biases[:, None]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels, axis=0)
        return jnp.mean(losses) + l2 * jnp.sum(weights**2), losses

    gradient, losses = jax.grad(loss, argnums=(0, 1), has_aux=True)(weights, biases)
    return losses, gradient


def probe(
    train: LabelledFeatures,
    validation: LabelledFeatures,
    test: LabelledFeatures,
    classes: int,
    l2s: Sequence[float] = L2S,
) -> tuple[float, np.ndarray]:
    """Fits a classifier for each L2, and uses the one that is best on validation images.

    Each search begins where the one with the next larger L2 ended. Smaller values are not tried
    after three that are worse than the best.

    Args:
      train: what it is fitted to, and standardised with.
      validation: chooses the L2; of equal accuracies, that with the larger L2.
      test: what it is used for.
      classes: their number, K.
      l2s: in decreasing order.

    Returns:
      The L2, and the logits of the test images, float32[M, K].
    """
    standardised = Standardisation(train.values)
    fit = make_fit(standardised(train.values), train.labels, classes)
    chosen_on = standardised(validation.values)
    current, best, worse = None, None, 0
    for l2 in l2s:
        current = fit(l2, current)
        guesses = (chosen_on @ current.weights + current.biases).argmax(axis=1)
        hits = int(np.sum(guesses == validation.labels))
        if best is None or hits > best[0]:
            best, worse = (hits, l2, current), 0
        elif hits < best[0]:
            worse += 1
            if worse == PATIENCE:
                break
    assert best is not None
    _, l2, regression = best
    return l2, standardised(test.values) @ regression.weights + regression.biases
