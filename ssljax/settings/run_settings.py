"""The settings that every run has, with their defaults, ranges and help.

A run's config also has the groups `method` and `model`, whose options belong to the dataclass of
the method or the backbone that they name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from ssljax.settings.options import defaults, option, options

_LARGEST_SEED = 2**32 - 1  # jax uses 32 bits of a seed


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """`config.*`: the settings that belong to no group."""

    seed: int = option(
        0,
        "decides every random draw: weights, order, crops, puzzles, dropout",
        at_least=0,
        at_most=_LARGEST_SEED,
    )
    epochs: int = option(20, "passes over the training images", above=0, at_most=10**6)
    batch_size: int = option(
        64, "images in a step, over all devices and processes", above=0, at_most=2**24
    )
    gradient_accumulation_steps: int = option(
        1,
        "micro-batches that a device computes one after the other to save memory",
        above=0,
        at_most=2**24,
    )
    init_from: str = option(
        "", "start from these weights: a run folder, or a .pth or .safetensors file"
    )
    init_part: str = option(
        "student",
        "which weights of a run or a checkpoint to start from",
        choices=("student", "teacher"),
    )
    init_layers: str = option(
        "backbone", "parameters to take from init_from: comma-separated path patterns"
    )
    frozen_layers: str = option("", "parameters that are not trained: comma-separated patterns")
    parallelism: str = option("jit", "how the step runs on the devices", choices=("jit", "pmap"))
    cpu_devices: int = option(
        0,
        "devices to split a CPU into; 0 chooses by the size of the model",
        at_least=0,
        at_most=1024,
    )
    validate_every_epochs: int = option(
        1, "validate this often, and after the last epoch", above=0, at_most=10**6
    )
    log_every_steps: int = option(50, "steps between two rows of the log", above=0, at_most=10**9)
    checkpoint_every_steps: int = option(
        0, "save this often in addition to before each validation; 0: never", at_least=0
    )
    profile_steps: tuple[int, ...] = option(
        (), "first and last step to profile, such as 10,12; written to RUN/profile"
    )


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """`config.data.*`."""

    dataset: str = option("", "TFDS's name: NAME, NAME/CONFIG or NAME/CONFIG:VERSION")
    data_dir: str = option(
        "", "where it is prepared; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    train_split: str = option("train", "split to train on, such as train[:70%]")
    validation_split: str = option("validation", "split to validate on")
    test_split: str = option("test", "split that `evaluate` uses by default")
    image_key: str = option("image", "name of the image feature")
    label_key: str = option("label", "name of the label feature")
    image_size: int = option(227, "side of the square images, in pixels", above=0, at_most=2048)
    canvas: int = option(
        0,
        "for methods that make views: side of the whole images they are made of; 0: 8/7 of "
        "image_size, or image_size up to 64 px",
        at_least=0,
        at_most=2048,
    )
    random_crop: bool = option(True, "cut training images at a random place, not at the centre")
    mean: tuple[float, ...] = option((0.5, 0.5, 0.5), "subtracted from channels in [0, 1]")
    std: tuple[float, ...] = option((0.5, 0.5, 0.5), "divides the channels after that")
    label_fraction: float = option(
        1.0,
        "train on this share of each class; larger shares contain smaller ones",
        above=0,
        at_most=1,
    )
    decoding: str = option(
        "exact", "`exact` as Pillow decodes, or `fast`", choices=("exact", "fast")
    )
    threads: int = option(2, "threads that read and decode", at_least=0, at_most=1024)
    workers: int = option(
        0, "processes that read and decode instead of the threads", at_least=0, at_most=1024
    )
    cache: str = option(
        "", "`ram` keeps decoded images in memory after the first epoch", choices=("", "ram")
    )


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """`config.optimizer.*`."""

    name: str = option(
        "adam",
        "`adam`, `adamw` and `sgd` as PyTorch has them, `lars` as SimCLR has it",
        choices=("adam", "adamw", "sgd", "lars"),
    )
    learning_rate: float = option(1e-4, "for base_batch_size, if it scales with the batch", above=0)
    learning_rate_scaling: str = option(
        "none",
        "with batch_size / base_batch_size: linear (for sgd and lars) or sqrt (for adam)",
        choices=("none", "linear", "sqrt"),
    )
    base_batch_size: int = option(64, "the batch that learning_rate is meant for", above=0)
    weight_decay: float = option(
        1e-3, "L2, added to the gradient; of adamw: added to the update", at_least=0
    )
    decay_biases_and_norms: bool = option(
        True, "whether weight decay also acts on parameters of one dimension"
    )
    layer_decay: float = option(
        1.0, "multiplies the learning rate of each layer of the backbone below the next one",
        above=0, at_most=1,
    )  # fmt: skip
    b1: float = option(0.9, "of adam: decay of the gradient's mean", at_least=0, below=1)
    b2: float = option(0.999, "of adam: decay of the squared gradient's mean", at_least=0, below=1)
    eps: float = option(1e-8, "of adam: added to the denominator", at_least=0)
    momentum: float = option(0.0, "of sgd and lars", at_least=0, below=1)
    nesterov: bool = option(False, "of sgd and lars: Nesterov's momentum")
    trust_coefficient: float = option(
        1e-3, "of lars: the share of a parameter's norm that an update may have", above=0
    )
    clip_norm: float = option(
        0.0, "a gradient with a larger norm over all parameters is scaled to it; 0: never",
        at_least=0,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """`config.schedule.*`: the learning rate and the weight decay over the steps."""

    name: str = option("step", "of the learning rate", choices=("constant", "step", "cosine"))
    every_epochs: int = option(5, "of `step`: epochs between two decays", above=0, at_most=10**6)
    factor: float = option(0.3, "of `step`: multiplies the learning rate at each decay", above=0)
    final: float = option(
        0.0, "of `cosine`: share of the learning rate left at the end", at_least=0, at_most=1
    )
    warmup_epochs: float = option(
        0.0, "epochs in which the learning rate rises linearly, step by step", at_least=0
    )
    weight_decay: str = option("constant", "of the weight decay", choices=("constant", "cosine"))
    final_weight_decay: float = option(
        0.0, "of a cosine weight decay: its value at the end", at_least=0
    )


@dataclasses.dataclass(frozen=True)
class ProbesSettings:
    """`config.probes.*`: what probes during training use, and the map of the features."""

    train_images: int = option(
        4000, "about so many of train_split, in shares of the classes", above=0
    )
    validation_images: int = option(
        1000, "about so many of validation_split, in shares of the classes", above=0
    )
    map_images: int = option(
        500,
        "of validation_split, shown on the run's page at its end by their features; 0: none",
        at_least=0,
        at_most=5000,
    )


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """`config.probes.knn.*` and `config.probes.linear.*`."""

    every_epochs: int = option(
        0, "measure the features this often, and after the last epoch; 0: never",
        at_least=0, at_most=10**6,
    )  # fmt: skip


GROUPS: dict[str, Any] = {
    "data": DataSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "probes": ProbesSettings,
    "probes.knn": ProbeSettings,
    "probes.linear": ProbeSettings,
}


def run_defaults() -> ConfigDict:
    """The settings that every run has, with their defaults."""
    config = defaults(RunSettings)
    for name, cls in GROUPS.items():
        parent, _, group = name.rpartition(".")
        (config[parent] if parent else config)[group] = defaults(cls)
    return config


def run_fields() -> dict[str, dataclasses.Field[Any]]:
    """The options that every run has, by key, such as `data.image_size`."""
    return {
        **options(RunSettings),
        **{
            f"{group}.{name}": field
            for group, cls in GROUPS.items()
            for name, field in options(cls).items()
        },
    }


def fill_defaults(config: ConfigDict) -> None:
    """Adds the settings that every run has and the config leaves out."""
    _fill(config, run_defaults())


def _fill(group: ConfigDict, values: ConfigDict) -> None:
    for name, value in values.items():
        if name not in group:
            group[name] = value
        elif isinstance(value, ConfigDict) and isinstance(group[name], ConfigDict):
            _fill(group[name], value)
