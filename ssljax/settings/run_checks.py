"""Checks of the settings that every run has: each one's range, and what fits together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError, nearest
from ssljax.settings.options import check_group, options, same_kind
from ssljax.settings.run_settings import GROUPS, RunSettings

_LARGEST_MEAN = 10**6  # and standard deviation, of channels in [0, 1]


def check_run_settings(config: Mapping[str, Any]) -> None:
    """Checks the settings that every run has; the groups `method` and `model` are left out.

    Raises:
      InputError: names the key and what would be right.
    """
    groups = {name for name in GROUPS if "." not in name} | {"method", "model"}
    _check_own(config, RunSettings, "", groups)
    for name, cls in GROUPS.items():
        values: Any = config
        for key in name.split("."):
            values = values[key]
            if not isinstance(values, Mapping | ConfigDict):
                raise InputError(f"{name}: expected a group of settings, got {values!r}")
        inner = {other.removeprefix(f"{name}.") for other in GROUPS if other.startswith(f"{name}.")}
        _check_own(values, cls, name, inner)
    _check_combinations(config)


def _check_own(values: Mapping[str, Any], cls: Any, group: str, inner: set[str]) -> None:
    """Checks the settings of a group, but not those of the groups in it."""
    own = {key: value for key, value in values.items() if key not in inner}
    for key in own:
        if key not in options(cls):
            where = f"{group}.{key}" if group else key
            raise InputError(f"unknown key {where}; {nearest(key, [*options(cls), *inner])}")
    check_group(own, cls, group=group)


def _check_combinations(config: Mapping[str, Any]) -> None:
    data, schedule = config["data"], config["schedule"]
    for key in ("dataset", "train_split", "validation_split"):
        if not data[key]:
            raise InputError(f"data.{key} is not set")
    for key in ("mean", "std"):
        if len(data[key]) != 3 or not all(
            same_kind(value, 0.5) and abs(value) <= _LARGEST_MEAN for value in data[key]
        ):
            raise InputError(
                f"data.{key} must be three numbers, one per channel, of at most {_LARGEST_MEAN:,}, "
                f"got {data[key]}"
            )
    if not all(value > 0 for value in data["std"]):
        raise InputError(f"data.std must be > 0, got {data['std']}")
    if schedule["warmup_epochs"] > config["epochs"]:
        raise InputError(
            f"schedule.warmup_epochs must be <= epochs ({config['epochs']}), "
            f"got {schedule['warmup_epochs']:g}"
        )
    steps = config["profile_steps"]
    if steps and not (
        len(steps) == 2 and all(same_kind(step, 0) for step in steps) and 1 <= steps[0] <= steps[1]
    ):
        raise InputError(
            f"profile_steps must be a first and a last step, such as (10, 12), got {steps}"
        )
