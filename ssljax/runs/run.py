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
from ssljax.methods import make_method, method_class
from ssljax.methods.method import DataSpec, Method
from ssljax.models import MODELS, make_network, model_class, model_defaults, paths
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.network import Network
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
    _check_tokens(config)
    _check_needed_options(config)
    method = make_method(config.method, data_spec(config, len(class_names)))
    smallest = model_class(config.model.name).smallest_image
    if method.image_size < smallest:
        raise InputError(
            f"data.image_size: images of {method.image_size} px are too small for "
            f"{config.model.name}, which needs at least {smallest} px"
        )
    if method.smallest_input < smallest:
        raise InputError(
            f"{method.smallest_input_is} of {method.smallest_input} px, too small for "
            f"{config.model.name}, which needs at least {smallest} px; use a larger "
            "data.image_size or another network"
        )
    _check_sides(config, method)
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


def _check_tokens(config: ConfigDict) -> None:
    """Checks that the backbone has tokens if the method needs them."""
    model = config.model
    if not method_class(config.method.name).needs_tokens:
        return
    if not model_class(model.name).patch_side(model):
        known = ", ".join(
            name for name in MODELS if model_class(name).patch_side(model_defaults(name))
        )
        raise InputError(
            f"model.name: {config.method.name} needs a backbone that computes tokens of patches, "
            f"which {model.name} does not; use one of {known}"
        )


def _check_needed_options(config: ConfigDict) -> None:
    """Checks that the backbone has the options that the method needs."""
    method, model = config.method.name, config.model
    needed = method_class(method).needs_model
    if wrong := [key for key, value in needed.items() if model.get(key, value) != value]:
        wanted = ", ".join(f"model.{key}={_text(needed[key])}" for key in wrong)
        given = ", ".join(_text(model[key]) for key in wrong)
        raise InputError(f"model.{wrong[0]}: {method} needs {wanted}, got {given}")


def _text(value: Any) -> str:
    """A value as it is set on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_sides(config: ConfigDict, method: Method) -> None:
    """Checks that images consist of whole patches."""
    patch = model_class(config.model.name).patch_side(config.model)
    if not patch:
        return
    if side := method.image_size % patch:
        below = method.image_size - side
        raise InputError(
            f"data.image_size: images of {method.image_size} px do not consist of whole patches of "
            f"{patch} px (model.patch); use {below} or {below + patch} px, or another model.patch"
        )
    if method.smallest_input % patch:
        raise InputError(
            f"{method.smallest_input_is} of {method.smallest_input} px, which do not consist of "
            f"whole patches of {patch} px (model.patch); use another data.image_size or model.patch"
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
