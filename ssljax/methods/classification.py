"""Classification with cross entropy: the downstream method."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.methods.method import Context, Method, Metrics
from ssljax.models.heads import Linear
from ssljax.settings.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Method):
    """Predict the image's class."""

    needs_labels: ClassVar[bool] = True
    names_classes: ClassVar[bool] = True
    best_metric: ClassVar[str] = "top1"
    hand_over: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        if self.data.num_classes < 2:
            raise InputError(
                "method.name: classification needs labels of at least two classes, "
                f"but the data set has {self.data.num_classes}"
            )

    def heads(self) -> dict[str, Callable[..., Any]]:
        """One logit per class."""
        return {"head": functools.partial(Linear, features=self.data.num_classes)}

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """Softmax cross entropy, in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, context.batch["label"])

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """top1, top3, top5 and class_mean (top-1 within each class, then the mean over classes)."""
        label, classes = context.batch["label"], self.data.num_classes
        own = jnp.take_along_axis(outputs, label[:, None], axis=-1)
        # Ties go to the lower class, as in a sort, so that a constant output is right for few.
        earlier = jnp.arange(classes)[None, :] < label[:, None]
        rank = jnp.sum((outputs > own) | ((outputs == own) & earlier), axis=-1)
        one = jnp.ones(label.shape, jnp.float32)
        top = {f"top{k}": ((rank < k).astype(jnp.float32), one) for k in (1, 3, 5)}
        true = jax.nn.one_hot(label, classes)
        return {**top, "class_mean": (true * top["top1"][0][:, None], true)}

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """Always the most frequent classes, the most frequent first."""
        counts = np.sort(np.bincount(labels, minlength=self.data.num_classes))[::-1]
        top = {f"top{k}": float(counts[:k].sum() / counts.sum()) for k in (1, 3, 5)}
        return {**top, "class_mean": 1 / int((counts > 0).sum())}
