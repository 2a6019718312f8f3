"""Classification with cross entropy: the downstream task."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.errors import InputError
from ssljax.tasks.task import Batch, Metrics, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Name the picture's class."""

    needs_labels: ClassVar[bool] = True
    best_metric: ClassVar[str] = "top1"
    best_is_max: ClassVar[bool] = True
    hand_over: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise InputError(
                f"task.name: classification needs labels of at least two classes, "
                f"but the data set has {self.num_classes}"
            )

    @property
    def num_outputs(self) -> int:
        """One logit per class."""
        return self.num_classes

    def draw(self, label: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """Nothing: the label is in the batch already."""
        return {}

    def inputs(self, batch: Batch) -> jax.Array:
        """The normalised picture."""
        return self.normalize(batch["image"])

    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """Softmax cross entropy, in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"])

    def metrics(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """top1, top3, top5 and class_mean (top-1 within each class, then the mean over classes)."""
        label = batch["label"]
        own = jnp.take_along_axis(outputs, label[:, None], axis=-1)
        # Ties go to the lower class, as in a sort: a constant output is right for few, not for all.
        earlier = jnp.arange(self.num_classes)[None, :] < label[:, None]
        rank = jnp.sum((outputs > own) | ((outputs == own) & earlier), axis=-1)
        one = jnp.ones(label.shape, jnp.float32)
        top = {f"top{k}": ((rank < k).astype(jnp.float32), one) for k in (1, 3, 5)}
        classes = jax.nn.one_hot(label, self.num_classes)
        return {**top, "class_mean": (classes * top["top1"][0][:, None], classes)}

    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """Always the most frequent classes, most frequent first."""
        counts = np.sort(np.bincount(labels, minlength=self.num_classes))[::-1]
        top = {f"top{k}": float(counts[:k].sum() / counts.sum()) for k in (1, 3, 5)}
        return {**top, "class_mean": 1 / int((counts > 0).sum())}
