"""The contract of every method, so that one training loop serves all of them."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.settings.errors import InputError

Tree = Any  # nested dicts, tuples or arrays; each leaf of inputs and outputs has shape [B, …]
Batch = dict[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class BatchMetric(NamedTuple):
    """A metric whose value is that of a whole batch, for each of its examples.

    The examples do not vary independently, so it has no standard error over them.
    """

    value: jax.Array
    weight: jax.Array


class Context(NamedTuple):
    """What a loss may use besides the network's outputs.

    Attributes:
      batch: uint8[B, S, S, 3] `image`, int32[B] `label` and `record`, bool[B] `mask` (False for
        examples that do not count), and what `draw` returned, stacked. For methods that need the
        canvas, the images are whole ones, with int32[B] `height` and `width`.
      inputs: from `Method.inputs`.
      targets: from `Method.targets`, without gradient; None if there is no teacher.
      memory: from `Method.first_memory` or the last `Method.remember`; {} for most methods.
      progress: float32[], the share of training that is done.
      params: the network's parameters by part, without gradient.
      apply: from the network's inputs to its outputs, for `Method.diagnostics`; None when training.
    """

    batch: Batch
    inputs: Tree
    targets: Tree
    memory: Tree
    progress: jax.Array
    params: Tree
    apply: Callable[[Tree], Tree] | None = None


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What a method knows about the data, and how the backbone divides it.

    Attributes:
      image_size: `config.data.image_size`, in pixels.
      mean: subtracted from each channel of images in [0, 1].
      std: divides each channel after that.
      num_classes: of the data set; 0 if it has no labels.
      canvas: `config.data.canvas`, in pixels; 0 leaves it to the method.
      patch: the side of the backbone's patches, in pixels; 0 if it has none.
    """

    image_size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    num_classes: int = 0
    canvas: int = 0
    patch: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """How a network is trained: what it sees, what it is asked, and how it is judged.

    A method is one file with a subclass of this class, and one line in `METHODS`. Its options are
    fields made with `ssljax.settings.options.option`; `config.method.*` sets them by name.

    Methods that run on the devices see a device's part of the batch, inside jit, over the axis
    `ssljax.models.collectives.AXIS`.

    Attributes:
      data: what is known about the data, and how the backbone divides it.
    """

    data: DataSpec

    needs_labels: ClassVar[bool] = False
    # The outputs are one logit per class, so that images can be classified.
    names_classes: ClassVar[bool] = False
    # The backbone must be one that computes tokens of patches, see `Backbone.tokens`.
    needs_tokens: ClassVar[bool] = False
    # Options that the backbone must have if it knows them, such as {"pool": "avg"}.
    needs_model: ClassVar[Mapping[str, Any]] = {}
    # The loss of an example depends on the other examples of the batch.
    couples_examples: ClassVar[bool] = False
    # All examples of a batch have the same loss, that of the batch.
    has_batch_loss: ClassVar[bool] = False
    # A second set of weights follows the trained ones, see `teacher_momentum`.
    has_teacher: ClassVar[bool] = False
    # The loss, the targets or the teacher depend on the share of training that is done.
    uses_progress: ClassVar[bool] = False
    # The validation metric that decides which checkpoint is the best; empty keeps no best one.
    best_metric: ClassVar[str] = ""
    best_is_max: ClassVar[bool] = True
    # The checkpoint that is evaluated and transferred unless another one is named.
    hand_over: ClassVar[str] = "latest"

    @property
    def needs_canvas(self) -> bool:
        """Whether the batch holds whole images, squashed to a square, and no squares of them."""
        return False

    @property
    def rows_together(self) -> int:
        """How many successive rows of a batch must be in one micro-batch, on one device."""
        return 1

    @property
    def image_size(self) -> int:
        """The side of the square images that the network sees when evaluating, in pixels."""
        return self.data.image_size

    @property
    def smallest_input(self) -> int:
        """The side of the smallest images that the network sees, in pixels."""
        return self.image_size

    @property
    def smallest_input_is(self) -> str:
        """What they are, for messages, such as `method.views: swav has local views`."""
        return "data.image_size: there are images"

    @property
    def delivered_size(self) -> int:
        """The side S of the images that the input pipeline delivers, in pixels.

        They are the centre squares that the network sees, or the canvas.
        """
        if not self.needs_canvas:
            return self.image_size
        return self.data.canvas or default_canvas(self.image_size)

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws what the method needs for a record; on the host, without the image's pixels."""
        return {}

    @abc.abstractmethod
    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """The heads by name; each function makes one, given keyword arguments of `Part`."""

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The network's inputs; on the devices.

        Args:
          batch: see `Context`.
          keys: key[B], one random key per record, see `ssljax.views.keys`.
          train: False when validating or evaluating.
        """
        return self.normalize(batch["image"])

    def outputs(self, net: Any, inputs: Tree) -> Tree:
        """The network's outputs: float32.

        Args:
          net: a `ssljax.models.network.Network`.
          inputs: from `inputs`.
        """
        return net.head(net.backbone(inputs))

    def targets(self, net: Any, inputs: Tree) -> Tree:
        """The teacher's outputs; they get no gradient.

        Args:
          net: the network with the teacher's weights.
          inputs: from `inputs`.
        """
        raise NotImplementedError

    def teacher_momentum(self, progress: jax.Array) -> jax.Array | float:
        """The share of its weights that the teacher keeps in a step.

        Args:
          progress: float32[], the share of training that is done.
        """
        raise NotImplementedError

    def first_memory(self) -> Tree:
        """The value of `Context.memory` at the first step."""
        return {}

    def remember(self, outputs: Tree, context: Context) -> Tree:
        """The memory of the next step; equal on all devices."""
        return context.memory

    @abc.abstractmethod
    def loss(self, outputs: Tree, context: Context) -> jax.Array:
        """float32[B]: a loss per example; a loss of the whole batch is returned B times."""

    @abc.abstractmethod
    def metrics(self, outputs: Tree, context: Context) -> Metrics:
        """Metrics per example, each a pair of float32[B] or float32[B, K]: values and weights.

        One that has a single value for a batch is a `BatchMetric`.

        A metric is Σ values / Σ weights over the examples, then the mean over those of its K
        entries that have any weight.
        """

    def diagnostics(self, outputs: Tree, context: Context) -> Metrics:
        """Metrics that are computed only when validating or evaluating, since they take long.

        `context.apply` computes the outputs for other inputs.
        """
        return {}

    def concerns(self, metrics: Mapping[str, float]) -> list[str]:
        """What is said after a validation whose metrics show that training goes wrong."""
        return []

    def constrain(self, params: Tree) -> Tree:
        """The parameters after a step of the optimiser, such as with norms that must stay 1."""
        return params

    def check_batch(self, batch_size: int) -> None:
        """Checks the global batch size before anything is built.

        Raises:
          InputError: the batch is too small, or does not fit other options.
        """
        if self.couples_examples and batch_size < 2:
            raise InputError("batch_size must be >= 2: the method compares the images of a batch")

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """What guessing without looking at the image reaches, by metric.

        Args:
          labels: int[N], of the examples that the metrics are computed over.
        """
        return {}

    def remarks(self, channels: int) -> list[str]:
        """What is said before training about options that do not suit the data.

        Args:
          channels: of the images as they are stored; 0 if the data set does not say.
        """
        return []

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Parameters that are trained with another learning rate or weight decay."""
        return ()

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8[…, 3], or float32[…, 3] in [0, 1], to float32 with the config's mean and std."""
        mean = np.asarray(self.data.mean, np.float32)
        std = np.asarray(self.data.std, np.float32)
        one = 255 if images.dtype == jnp.uint8 else 1
        return images.astype(jnp.float32) * (1 / (one * std)) - mean / std


def default_canvas(image_size: int) -> int:
    """The side of the canvas if `config.data.canvas` is 0.

    Small images are used as they are. Above 64 px it is 8/7 of the views' side: 256 px for 224.
    """
    return image_size if image_size <= 64 else -(-image_size * 8 // 7)
