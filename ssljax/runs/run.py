"""What a config describes, built: the parts that training, evaluation and the library share."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.data.image_source import ImageSource
from ssljax.data.read_batch import Layout, batch_layout
from ssljax.data.records import Records, open_records
from ssljax.methods import make_method
from ssljax.methods.method import DataSpec, Method
from ssljax.models import make_network, model_class, paths
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.network import Network
from ssljax.runs import compatibility
from ssljax.runs.config import complete
from ssljax.settings.errors import InputError
from ssljax.views.keys import record_keys


@dataclasses.dataclass(frozen=True)
class Run:
    """A method and a network that fit each other and a config.

    Attributes:
      config: of the run.
      class_names: of its data set; empty if that has no labels.
      method: what it trains.
      network: when training; batch normalisation uses the batch's statistics.
      own_data: whether the user named the data folder. Otherwise the config comes from a run
        folder, perhaps a stranger's, and nothing is written to the folder that it names.
    """

    config: ConfigDict
    class_names: tuple[str, ...]
    method: Method
    network: Network
    own_data: bool = True

    def records(self, split: str) -> Records:
        """Opens a split of the run's data set.

        Raises:
          InputError: it is not there; or the method needs labels, and there are none, or other
        classes than the run's.
        """
        data = self.config.data
        records = open_records(
            data.dataset, split, data.data_dir, data.image_key, data.label_key, self.own_data
        )
        if self.method.needs_labels and records.class_names != self.class_names:
            raise InputError(
                f"{records.name} has the classes {list(records.class_names)}, "
                f"the run has {list(self.class_names)}"
            )
        return records.labelled() if self.method.needs_labels else records

    def images(self, split: str) -> ImageSource:
        """The images of a split, decoded as the run's config says.

        Raises:
          InputError: see `records`.
        """
        return ImageSource(self.records(split), **self.image_options())

    def image_options(self) -> dict[str, Any]:
        """What `ImageSource` and `open_images` are told about the run's images."""
        return {
            "size": self.method.delivered_size,
            "decoding": self.config.data.decoding,
            "whole": self.method.needs_canvas,
        }

    def layout(self, size: int) -> Layout:
        """Shapes and dtypes of the arrays of a batch of `size` examples."""
        method = self.method
        return batch_layout(size, method.delivered_size, method.draw, method.needs_canvas)

    def evaluation_network(self) -> Network:
        """The network when evaluating: batch normalisation uses the running statistics."""
        return self.network.clone(batch_statistics=())

    def evaluation_rows(self) -> int:
        """The images that a device computes at once when evaluating.

        It is the same for all splits, and for a CPU that is divided into fewer devices than the run
        had, because the last bit of a result may depend on it.
        """
        config, devices = self.config, jax.device_count()
        if jax.default_backend() == "cpu":
            devices = max(1, config.cpu_devices) * jax.process_count()
        # Micro-batches as in training, because memory may be short.
        micro_batch = -(-config.batch_size // config.gradient_accumulation_steps)
        return -(-micro_batch // devices)

    def initial_variables(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """New parameters and batch statistics from the config's seed; run it inside jit.

        Returns:
          Nested dicts by part; the statistics are {} if the network has none.
        """
        inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._input_shapes)
        key = jax.random.key(self.config.seed)
        created = self.network.init(key, inputs, method=self.method.outputs)
        return created["params"], created.get(COLLECTION, {})

    def variable_shapes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`initial_variables` as `jax.ShapeDtypeStruct`s."""
        return self._variable_shapes

    @functools.cached_property
    def _variable_shapes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return jax.eval_shape(self.initial_variables)

    @functools.cached_property
    def _input_shapes(self) -> Any:
        """The network's inputs for one example, as `jax.ShapeDtypeStruct`s."""

        def inputs() -> Any:
            layout = self.layout(1).items()
            batch = {name: jnp.zeros(shape, dtype) for name, (shape, dtype) in layout}
            keys = record_keys(self.config.seed, None, batch["record"])
            return self.method.inputs(batch, keys, train=True)

        return jax.eval_shape(inputs)


def make_run(config: ConfigDict, class_names: tuple[str, ...]) -> Run:
    """Builds the method and the network of a checked config.

    Args:
      config: a training config.
      class_names: of the data set; empty if it has no labels.

    Raises:
      InputError: the options do not fit each other or the data.
    """
    compatibility.check_backbone(config)
    method = make_method(config.method, data_spec(config, len(class_names)))
    compatibility.check_sides(config.model, method)
    heads = method.heads()
    network = make_network(config.model, heads, batch_statistics=("backbone", *heads))
    run = Run(config, class_names, method, network)
    if not config.frozen_layers:
        return run
    # A part that is frozen as a whole also keeps its statistics.
    leaves = paths.flatten(run.variable_shapes()[0])
    trained = set(leaves) - paths.match(config.frozen_layers, leaves, "frozen_layers")
    if not trained:
        raise InputError(
            f"frozen_layers: {config.frozen_layers} are all parameters of the network, so nothing "
            "would be trained"
        )
    parts = {path.partition("/")[0] for path in trained}
    return dataclasses.replace(run, network=network.clone(batch_statistics=tuple(sorted(parts))))


def data_spec(config: ConfigDict, num_classes: int) -> DataSpec:
    """What a method is told about the data and the backbone of a config."""
    data, model = config.data, config.model
    patch = model_class(model.name).patch_side(model)
    return DataSpec(
        data.image_size, tuple(data.mean), tuple(data.std), num_classes, data.canvas, patch
    )


def open_class_names(config: ConfigDict) -> tuple[str, ...]:
    """The class names of the data set that a config trains on.

    Raises:
      InputError: the data set is not there.
    """
    data = config.data
    return open_records(
        data.dataset, data.train_split, data.data_dir, data.image_key, data.label_key
    ).class_names


def open_run(config: ConfigDict) -> Run:
    """`make_run` with the class names of the config's data set.

    Args:
      config: a training config; settings that it leaves out get their defaults.

    Raises:
      InputError: whatever is wrong with the config, or the data set is not there.
    """
    config = complete(config)
    return make_run(config, open_class_names(config))
