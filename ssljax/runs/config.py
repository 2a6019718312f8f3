"""The config of a run: the shared settings, and the options of its method and its model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.devices import cpu
from ssljax.files import storage
from ssljax.methods import METHODS, check_method, method_class, method_defaults
from ssljax.models import (
    MODELS,
    automatic_dtype,
    check_model,
    make_network,
    model_class,
    model_defaults,
)
from ssljax.models.backbone import BackboneOptions
from ssljax.models.network import Network
from ssljax.settings import run_checks, run_settings
from ssljax.settings.errors import InputError
from ssljax.settings.options import flatten, option, options, same_kind

# The layout of config.json and of the checkpoints. A run of another format cannot be read.
FORMAT = 1


def train_config(method: str = "", model: str = "alexnet") -> ConfigDict:
    """The config of a training run with all defaults.

    Args:
      method: a name in `METHODS`; it fills `config.method`. Empty leaves it to be set.
      model: a name in `MODELS`; it fills `config.model`.

    Raises:
      InputError: an unknown name.
    """
    config = run_settings.run_defaults()
    config.method = ConfigDict(method_defaults(method) if method else {"name": ""})
    config.model = ConfigDict(model_defaults(model))
    return config


def complete(config: ConfigDict) -> ConfigDict:
    """A copy in which settings that were left out have their defaults.

    Raises:
      InputError: a group is missing, or names an unknown method or model; or it is of a study.
    """
    if "arms" in config:
        raise InputError("--config: this is a study's config; run it with `python -m ssljax.study`")
    config = config.copy_and_resolve_references().unlock()
    run_settings.fill_defaults(config)
    for group, defaults in (("method", method_defaults), ("model", model_defaults)):
        given = config.get(group)
        if not isinstance(given, ConfigDict):
            raise InputError(f"{group}: expected a group of settings with a name, got {given!r}")
        config[group] = ConfigDict({**defaults(given.get("name", "")), **given})
    return config


def check_train_config(config: ConfigDict) -> None:
    """Checks names, types and ranges of a complete config.

    Raises:
      InputError: names the key and what would be right.
    """
    run_checks.check_run_settings(config)
    check_method(config.method)
    check_model(config.model)


def resolve(config: ConfigDict, recorded: Mapping[str, Any] | None = None) -> ConfigDict:
    """A complete, checked copy in which nothing is left to be chosen automatically.

    Args:
      config: of a training run.
      recorded: the config of the run folder that is continued. What it chose stays chosen, also on
        a machine that would choose otherwise.

    Raises:
      InputError: see `complete` and `check_train_config`.
    """
    config = complete(config)
    check_train_config(config)
    if config.model.dtype == "auto":
        config.model.dtype = (
            recorded["model"]["dtype"] if recorded else automatic_dtype(jax.default_backend())
        )
    data = config.data
    for group, key in ((data, "data_dir"), (config, "init_from")):
        if group[key] and not storage.is_remote(group[key]):
            group[key] = os.path.abspath(os.path.expanduser(group[key]))
    if jax.default_backend() == "cpu":
        config.cpu_devices = jax.local_device_count()
    elif not config.cpu_devices:
        config.cpu_devices = cpu_devices(config, recorded)
    return config


def cpu_devices(config: ConfigDict, recorded: Mapping[str, Any] | None = None) -> int:
    """How many devices a CPU is to be split into for a run.

    It is what the config says, or else what the run has used so far, or else what
    `ssljax.devices.cpu.choose` says. It can be called before jax looks at its devices.
    """
    if config.cpu_devices or recorded:
        return config.cpu_devices or recorded["cpu_devices"]  # type: ignore[index]
    # Whoever builds the run refuses images that are too small.
    size = max(config.data.image_size, model_class(config.model.name).smallest_image)
    network = make_network({**config.model, "dtype": "float32"}, heads={})
    shapes = jax.eval_shape(
        lambda: network.init(
            jax.random.key(0), jnp.zeros((1, size, size, 3)), method=Network.backbone
        )["params"]
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    micro_batch = config.batch_size // config.gradient_accumulation_steps
    return cpu.choose(parameters, max(1, micro_batch), cpu.cores())


def select(config: ConfigDict, group: str, name: str) -> list[str]:
    """Gives a config another method or model, with its defaults.

    Values that the config sets are kept if the new method or model also has that option.

    Args:
      config: a training config, changed in place.
      group: `method` or `model`.
      name: of the new one; an unknown name is left for the checks to report.

    Returns:
      What was set for the old one and is not kept, such as `width=0.25`.
    """
    table: Mapping[str, Any] = METHODS if group == "method" else MODELS
    old = config[group].to_dict()
    if name not in table or old.get("name") == name:
        return []
    before = defaults_of(group, old.get("name", ""))
    given = {key: value for key, value in old.items() if key != "name"}
    changed = {key: value for key, value in given.items() if before.get(key, value) != value}
    after, fields = defaults_of(group, name), _options_of(group, name)
    kept = {
        key: value
        for key, value in changed.items()
        if key in after and same_kind(value, after[key]) and fields[key].metadata["carried_over"]
    }
    config[group] = ConfigDict({"name": name, **after, **kept})
    return [f"{key}={value}" for key, value in changed.items() if key not in kept]


def defaults_of(group: str, name: str) -> dict[str, Any]:
    """The options of a method or a model with their defaults; {} for an unknown name."""
    return {key: field.default for key, field in _options_of(group, name).items()}


def _options_of(group: str, name: str) -> dict[str, dataclasses.Field[Any]]:
    if group == "method":
        return options(METHODS[name]) if name in METHODS else {}
    return options(BackboneOptions, MODELS[name]) if name in MODELS else {}


def described(config: ConfigDict) -> tuple[ConfigDict, dict[str, dataclasses.Field[Any]]]:
    """A config of a training run, complete and checked, and its options by key.

    Raises:
      InputError: see `complete` and `check_train_config`.
    """
    config = complete(config)
    check_train_config(config)
    return config, train_fields(config)


def train_fields(config: ConfigDict) -> dict[str, dataclasses.Field[Any]]:
    """The options of a training run by key, such as `model.width`; also those of its method."""
    fields = run_settings.run_fields()
    for group, table, text in (
        ("method", METHODS, "how the network is trained"),
        ("model", MODELS, "the backbone"),
    ):
        fields[f"{group}.name"] = option("", text, choices=table)
        own = _options_of(group, config[group].name)
        fields |= {f"{group}.{name}": field for name, field in own.items()}
    return fields


# Settings that may change when a run continues: they do not affect what it has computed so far.
_CHANGEABLE = (
    "cpu_devices",
    "data.data_dir",
    "data.threads",
    "data.workers",
    "data.cache",
    "init_from",  # may have moved; what was loaded from it may not have changed
    "model.remat",
    "parallelism",
    "checkpoint_every_steps",
    "profile_steps",
    *(key for key in run_settings.run_fields() if key.startswith("probes.")),
)


def changeable(config: ConfigDict) -> tuple[str, ...]:
    """The settings that may change when a run continues.

    `epochs` may, unless a schedule depends on the total number of steps, or the method on the share
    of training that is done. `gradient_accumulation_steps` may, because it is exact where it is
    allowed at all.
    """
    method = method_class(config.method.name)
    schedule = config.schedule
    total = "cosine" in (schedule.name, schedule.weight_decay) or method.uses_progress
    return (*_CHANGEABLE, "gradient_accumulation_steps", *(() if total else ("epochs",)))


def changes(before: ConfigDict, now: ConfigDict) -> list[str]:
    """The settings that differ and may not, such as `seed 0 → 1`."""
    old = {key: _plain(value) for key, value in flatten(before)}
    new = {key: _plain(value) for key, value in flatten(now)}
    allowed = changeable(now)
    return [
        f"{key} {old.get(key, 'unset')} → {new.get(key, 'unset')}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key) and key not in allowed
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
