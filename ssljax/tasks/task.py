"""The contract that every task obeys, so that one training loop serves all of them."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """What the network is asked to do with a picture.

    A task's own options are the fields that its subclass adds; `config.task` sets them by name.

    A batch on the devices holds uint8[B, S, S, 3] `image`, int32[B] `label`, int32[B] `record`,
    bool[B] `mask` (False for padding) and what `draw` returned, stacked.

    Attributes:
      data_image_size: `config.data.image_size`; a task may use less of it, see `image_size`.
      mean: subtracted from each channel of pictures in [0, 1].
      std: divides each channel after that.
      num_classes: of the data set; 0 where it has no labels.
    """

    data_image_size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    num_classes: int = 0

    needs_labels: ClassVar[bool]
    # The validation metric that decides which checkpoint is the best, and what "best" is.
    best_metric: ClassVar[str]
    best_is_max: ClassVar[bool]
    # The checkpoint that is evaluated and handed over to other runs unless another is asked for.
    hand_over: ClassVar[str]

    @property
    def image_size(self) -> int:
        """The side S of the square pictures that the input pipeline delivers, in pixels."""
        return self.data_image_size

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """The width of the model's last layer."""

    @abc.abstractmethod
    def draw(self, label: int, rng: np.random.Generator, train: bool) -> dict[str, np.ndarray]:
        """Draws what a record needs beyond its picture; on the host, without seeing pixels."""

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> jax.Array:
        """The model's input, float32[B, S, S, 3]; runs on the devices, inside jit."""

    @abc.abstractmethod
    def loss(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """float32[B], one loss per example, from float32[B, num_outputs]."""

    @abc.abstractmethod
    def metrics(self, outputs: jax.Array, batch: Batch) -> Metrics:
        """Metrics per example, each a pair of float32[B] or float32[B, K]: values and weights.

        A metric is Σ values / Σ weights over the examples, then the mean over those of its K
        entries that have any weight.
        """

    @abc.abstractmethod
    def floor(self, labels: np.ndarray) -> dict[str, float]:
        """What guessing without looking at the picture reaches, by metric.

        Args:
          labels: int[N], of the examples that the metrics are over.
        """

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8[B, S, S, 3] to float32, with mean and standard deviation of the configuration."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return images.astype(jnp.float32) * (1 / (255 * std)) - mean / std


def options(task: type[Task]) -> dict[str, Any]:
    """A task's own options with their defaults, by name."""
    common = {field.name for field in dataclasses.fields(Task)}
    return {
        field.name: field.default for field in dataclasses.fields(task) if field.name not in common
    }
