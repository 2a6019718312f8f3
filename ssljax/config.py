"""Every setting of a run, with its default, and the checks that come before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.errors import InputError, nearest
from ssljax.slides import PUBLISHED


def train_config() -> ConfigDict:
    """A training run's settings; a config file sets `task` and what else it wants otherwise."""
    config = ConfigDict()
    config.seed = 0  # decides every random draw: weights, shuffling, crops, puzzles, dropout
    config.epochs = 20
    config.batch_size = 64  # over all devices and processes
    # A step takes its part of the batch in so many micro-batches, one after the other: less memory.
    config.gradient_accumulation_steps = 1

    config.task = ConfigDict({"name": ""})  # and the options of that task, see ssljax/tasks
    config.model = ConfigDict()
    config.model.name = "alexnet"
    config.model.width = 1.0  # multiplies the channels of every layer but the last
    config.model.dropout = 0.5
    config.model.initializer = "pytorch"  # or "lecun_normal", Flax's own
    config.model.dtype = "auto"  # computes in bfloat16 on GPU and TPU, in float32 on CPU

    config.data = ConfigDict()
    config.data.dataset = ""  # TFDS's name: name, name/config or name/config:version
    config.data.data_dir = ""  # where it is prepared; empty is TFDS's default
    config.data.train_split = "train"
    config.data.validation_split = "validation"
    config.data.test_split = "test"
    config.data.image_key = "image"
    config.data.label_key = "label"
    config.data.image_size = 227  # pixels a side, after the crop
    config.data.random_crop = True  # the square's place when training; the centre otherwise
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.data.label_fraction = 1.0  # trains on this share of each class; 5 % are part of 10 %
    config.data.decoding = "exact"  # as Pillow does it, or "fast": see ssljax/data/fast_images.py
    config.data.threads = 2  # that read and decode
    config.data.workers = 0  # that do so in place of the threads
    config.data.cache = ""  # "ram" keeps decoded pictures after the first epoch

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-4  # at `base_batch_size`, if it scales with the batch
    config.optimizer.learning_rate_scaling = "none"  # or "linear" (for sgd), "sqrt" (for adam)
    config.optimizer.base_batch_size = 64
    config.optimizer.weight_decay = 1e-3  # L2, added to the gradient
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.momentum = 0.0  # of sgd
    config.schedule = ConfigDict()
    config.schedule.every_epochs = 5
    config.schedule.factor = 0.3
    config.schedule.warmup_epochs = 0.0  # of them, the rate rises linearly, step by step

    config.init_from = ""  # a run folder, or a file of PyTorch weights (.pth, .safetensors)
    config.init_layers = "conv*"  # which layers are carried over from it, comma-separated
    config.frozen_layers = ""  # which layers are not trained; all but the last: linear evaluation

    config.parallelism = "jit"  # or "pmap"
    config.validate_every_epochs = 1  # and after the last one
    config.log_every_steps = 50
    config.checkpoint_every_steps = 0  # beside the one before each validation
    return config


def study_config() -> ConfigDict:
    """A study's settings; a config file fills in `pretexts`, `classification` and `arms`."""
    config = ConfigDict()
    config.seeds = 1  # repeats everything, pretext included, with seed, seed + 1, …
    config.pretexts = ConfigDict()  # training configs by name
    config.classification = train_config()
    config.arms = ConfigDict()  # arms by name, see `arm_config`
    config.label_fractions = (1.0,)  # every arm is trained on each of these shares of the labels
    config.label_epochs = ()  # epochs at each of them; empty: those of `classification`
    # Learning rate and weight decay to choose from, by name, see `setting_config`; empty: those of
    # `classification`. Each arm's choice at each share is made on validation data, with the first
    # seed; the one named `slides`, or else the alphabetically first, is run with every seed, too.
    config.settings = ConfigDict()
    config.weights_file = (
        ""  # of PyTorch, for arms that start from it; without it they are left out
    )
    return config


def arm_config(start: str = "random", slides_arm: str = "") -> ConfigDict:
    """One downstream arm of a study.

    Args:
      start: `random`, `weights_file`, or a name in `pretexts`.
      slides_arm: which published row it stands beside: `random`, `pretext`, `imagenet` or none.
    """
    config = ConfigDict()
    config.start = start
    config.init_layers = "conv*,fc6,fc7" if start == "weights_file" else "conv*"
    config.frozen_layers = ""
    config.slides_arm = slides_arm
    config.label_fractions = ()  # empty: those of the study
    config.settings = ()  # names of those that it chooses from; empty: all of the study's
    # Quantities that arms of a chart differ in, such as {"pretext epochs": 5}.
    config.axes = ConfigDict()
    return config


def setting_config(learning_rate: float = 1e-4, weight_decay: float = 1e-3) -> ConfigDict:
    """A classification setting that a study's arms choose from."""
    return ConfigDict({"learning_rate": learning_rate, "weight_decay": weight_decay})


# Settings that may change when a run goes on: they decide nothing about its numbers so far.
CHANGEABLE = (
    "epochs",
    "data.data_dir",
    "data.threads",
    "data.workers",
    "data.cache",
    "init_from",  # may have moved; what was loaded from it may not have changed
    "gradient_accumulation_steps",
    "parallelism",
    "checkpoint_every_steps",
)

_POSITIVE = (
    "epochs", "batch_size", "gradient_accumulation_steps", "model.width", "data.image_size",
    "optimizer.learning_rate", "optimizer.base_batch_size", "schedule.every_epochs",
    "schedule.factor", "validate_every_epochs", "log_every_steps", "data.label_fraction",
)  # fmt: skip
_NOT_NEGATIVE = (
    "seed", "data.threads", "data.workers", "optimizer.weight_decay", "optimizer.b1",
    "optimizer.b2", "optimizer.eps", "optimizer.momentum", "schedule.warmup_epochs",
    "checkpoint_every_steps",
    "model.dropout",
)  # fmt: skip
_CHOICES = {
    "data.cache": ("", "ram"),
    "data.decoding": ("exact", "fast"),
    "optimizer.learning_rate_scaling": ("none", "linear", "sqrt"),
}
_BELOW_ONE = ("model.dropout", "optimizer.b1", "optimizer.b2", "optimizer.momentum")


def check_train_config(config: ConfigDict) -> None:
    """Checks names, types and ranges; `make_task` and `make_model` check options of their own.

    Raises:
      InputError: names the key and what would be right.
    """
    if "arms" in config:
        raise InputError("--config: this is a study's config; run it with `python -m ssljax.study`")
    check_keys(config, train_config(), free=("task", "model"))
    values = dict(flatten(config))
    for key in _POSITIVE:
        if not values[key] > 0:
            raise InputError(f"{key}: {values[key]} is not above 0")
    for key in _NOT_NEGATIVE:
        if not values[key] >= 0:
            raise InputError(f"{key}: {values[key]} is below 0")
    for key, known in _CHOICES.items():
        if values[key] not in known:
            raise InputError(f"{key}: {values[key]!r} is none of {', '.join(map(repr, known))}")
    for key in _BELOW_ONE:
        if not values[key] < 1:
            raise InputError(f"{key}: {values[key]} is not below 1")
    if values["schedule.warmup_epochs"] > values["epochs"]:
        raise InputError(
            f"schedule.warmup_epochs: {values['schedule.warmup_epochs']:g} are more than the "
            f"{values['epochs']} epochs of training"
        )
    if values["data.label_fraction"] > 1:
        raise InputError(f"data.label_fraction: {values['data.label_fraction']} is above 1")
    for key in ("data.dataset", "data.train_split", "data.validation_split", "task.name"):
        if not values.get(key):
            raise InputError(f"{key} is not set")
    for key in ("data.mean", "data.std"):
        numbers = all(isinstance(value, int | float) for value in values[key])
        if len(values[key]) != 3 or not numbers:
            raise InputError(f"{key}: {values[key]} is not three numbers, one per channel")
    if not all(value > 0 for value in values["data.std"]):
        raise InputError(f"data.std: {values['data.std']} is not above 0")


def check_study_config(config: ConfigDict) -> None:
    """Checks a study's settings, those of its runs included.

    Raises:
      InputError: names the key and what would be right.
    """
    if "task" in config:
        raise InputError("--config: this is a run's config; run it with `python -m ssljax.train`")
    check_keys(config, study_config(), free=("pretexts", "classification", "arms", "settings"))
    if config.seeds < 1:
        raise InputError(f"seeds: {config.seeds} is not above 0")
    if len(config.label_epochs) not in (0, len(config.label_fractions)):
        raise InputError(
            f"label_epochs: {config.label_epochs} are not as many as label_fractions "
            f"{config.label_fractions}"
        )
    if not config.arms:
        raise InputError("arms: a study needs at least one")
    for name, run in (*config.pretexts.items(), ("classification", config.classification)):
        try:
            check_train_config(run)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    starts = ["random", "weights_file", *config.pretexts]
    if config.classification.init_from:
        raise InputError("classification.init_from: in a study, arms say where they start from")
    if config.classification.task.name != "classification":
        raise InputError(f"classification.task.name: {config.classification.task.name!r} is none")
    for name, arm in config.arms.items():
        check_keys(arm, arm_config(), free=("axes",), prefix=f"arms.{name}.")
        if arm.start not in starts:
            raise InputError(f"arms.{name}.start: {arm.start!r}; {nearest(arm.start, starts)}")
        rows = ["", *PUBLISHED]
        if arm.slides_arm not in rows:
            raise InputError(
                f"arms.{name}.slides_arm: {arm.slides_arm!r}; {nearest(arm.slides_arm, rows)}"
            )
        for fraction in arm.label_fractions:
            if fraction not in config.label_fractions:
                raise InputError(
                    f"arms.{name}.label_fractions: {fraction} is not in label_fractions "
                    f"{config.label_fractions}"
                )
        for setting in arm.settings:
            if setting not in config.settings:
                hint = nearest(setting, list(config.settings))
                raise InputError(f"arms.{name}.settings: {setting!r}; {hint}")
    for name, setting in config.settings.items():
        check_keys(setting, setting_config(), prefix=f"settings.{name}.")


def check_keys(
    config: Mapping[str, Any],
    reference: Mapping[str, Any],
    free: tuple[str, ...] = (),
    prefix: str = "",
) -> None:
    """Compares keys and types with those of a reference, except below the keys in `free`.

    Raises:
      InputError: an unknown key (the nearest known one is named), a missing one, another type.
    """
    for key in config:
        if key not in reference:
            raise InputError(f"unknown key {prefix}{key}: {nearest(key, list(reference))}")
    for key, default in reference.items():
        if key not in config:
            raise InputError(f"key {prefix}{key} is missing (default: {default!r})")
        value = config[key]
        if isinstance(default, Mapping | ConfigDict):
            if not isinstance(value, Mapping | ConfigDict):
                raise InputError(f"{prefix}{key}: expected a group of settings, got {value!r}")
            if key not in free:
                check_keys(value, default, prefix=f"{prefix}{key}.")
        elif not same_kind(value, default):
            raise InputError(
                f"{prefix}{key}: expected {type(default).__name__} as in {default!r}, got {value!r}"
            )


def same_kind(value: Any, default: Any) -> bool:
    """Whether a value can stand where the default does: an integer for a float, but no string."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, float | int)
    if isinstance(default, tuple):
        return isinstance(value, tuple | list)
    return isinstance(value, type(default))


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The settings as ("a.b", value) pairs."""
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
