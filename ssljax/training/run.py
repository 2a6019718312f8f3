"""What a config describes, built: the parts that training, evaluation and the library share."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax import storage, tasks
from ssljax.config import check_train_config
from ssljax.data.pictures import Pictures
from ssljax.data.records import Records, open_records
from ssljax.errors import InputError
from ssljax.models import SMALLEST_IMAGE, make_model
from ssljax.tasks import Task, make_task
from ssljax.training.optimizers import make_optimizer
from ssljax.training.parallelism import Parallelism


@dataclasses.dataclass(frozen=True)
class Run:
    """A task and a model that fit each other and a config."""

    config: ConfigDict
    class_names: tuple[str, ...]
    task: Task
    model: nn.Module

    def records(self, split: str) -> Records:
        """Opens a split of the run's data set.

        Raises:
          InputError: it is not there, or has no labels or other classes than the run.
        """
        data = self.config.data
        records = open_records(data.dataset, split, data.data_dir, data.image_key, data.label_key)
        if self.task.needs_labels and records.class_names != self.class_names:
            raise InputError(
                f"{records.name} has the classes {list(records.class_names)}, "
                f"the run has {list(self.class_names)}"
            )
        return records

    def pictures(self, split: str) -> Pictures:
        """The squares of a split's pictures, decoded as the run's config says.

        Raises:
          InputError: see `records`.
        """
        return Pictures(self.records(split), self.task.image_size, self.config.data.decoding)

    def parameter_shapes(self) -> dict[str, Any]:
        """The shapes of its parameters by layer, as `jax.ShapeDtypeStruct`s."""
        size = self.task.image_size
        images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        return jax.eval_shape(self.model.init, jax.random.key(0), images)["params"]


def make_run(config: ConfigDict, class_names: tuple[str, ...]) -> Run:
    """Builds task and model.

    Args:
      config: a training config; keys of `config.task` that are missing get their defaults.
      class_names: of the data set; empty where it has no labels.

    Raises:
      InputError: whatever is wrong with the config.
    """
    check_train_config(config)
    config = config.copy_and_resolve_references()
    task = make_task(
        config.task,
        data_image_size=config.data.image_size,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        num_classes=len(class_names),
    )
    if config.data.data_dir and not storage.is_remote(
        config.data.data_dir
    ):  # evaluating must find it from any folder
        config.data.data_dir = os.path.abspath(os.path.expanduser(config.data.data_dir))
    config.task = ConfigDict({**tasks.options(type(task)), **config.task})
    if task.image_size < SMALLEST_IMAGE:
        raise InputError(
            f"data.image_size: pictures of {task.image_size} px are too small for "
            f"{config.model.name}; at least {SMALLEST_IMAGE}"
        )
    return Run(config, class_names, task, make_model(config.model, task.num_outputs))


def open_class_names(config: ConfigDict) -> tuple[str, ...]:
    """The class names of the data set that a config trains on.

    Raises:
      InputError: the data set is not there.
    """
    check_train_config(config)
    data = config.data
    return open_records(
        data.dataset, data.train_split, data.data_dir, data.image_key, data.label_key
    ).class_names


def check_buildable(config: ConfigDict) -> Run:
    """Builds everything of a training run but its state, and opens its data.

    Raises:
      InputError: whatever is wrong with the config or the data.
    """
    run = make_run(config, open_class_names(config))
    for split in (config.data.train_split, config.data.validation_split, config.data.test_split):
        run.records(split)
    Parallelism(config.parallelism, config.batch_size, config.gradient_accumulation_steps)
    optimizer = make_optimizer(config.optimizer, lambda step: 0.0, config.frozen_layers)
    jax.eval_shape(optimizer.init, run.parameter_shapes())  # names frozen layers that are none
    return run
