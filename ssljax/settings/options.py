"""Options: dataclass fields with a default, a range and a help text, as a config group.

Every setting of ssljax is such a field, whether of a method, of a backbone or of the run itself.
Its dataclass is the only place that knows its default, its type, its range and its help text.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError, nearest

_LARGEST = 2**53  # of integers; those up to it are exact as floats, too


def option(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    choices: Iterable[Any] = (),
    carried_over: bool = True,
) -> Any:
    """A dataclass field that is a setting.

    Args:
      default: its value unless set; it also gives the type.
      help: one line that says what it does.
      above: the value must be greater.
      at_least: the value must be greater or equal.
      below: the value must be less.
      at_most: the value must be less or equal.
      choices: the value must be one of these.
      carried_over: whether the value of an option of the same name is kept when a config gets
        another method or model.
    """
    limits = {"above": above, "at_least": at_least, "below": below, "at_most": at_most}
    return dataclasses.field(
        default=default,
        metadata={"help": help, **limits, "choices": tuple(choices), "carried_over": carried_over},
    )


def options(*classes: Any) -> dict[str, dataclasses.Field[Any]]:
    """The options of some dataclasses by name; their other fields are left out."""
    return {
        field.name: field
        for cls in classes
        for field in dataclasses.fields(cls)
        if "help" in field.metadata
    }


def defaults(*classes: Any) -> ConfigDict:
    """A config group with every option of some dataclasses and its default."""
    return ConfigDict({name: field.default for name, field in options(*classes).items()})


def check_group(values: Mapping[str, Any], *classes: Any, group: str, owner: str = "") -> None:
    """Checks a config group against the options of some dataclasses.

    Args:
      values: by option name; missing ones are not checked.
      *classes: the dataclasses.
      group: the group's key, such as `model`, for messages; empty for the top level.
      owner: the name of the method or model that has the options, for messages.

    Raises:
      InputError: an unknown option, a value of another type, or one out of range.
    """
    known = options(*classes)
    for name, value in values.items():
        key = f"{group}.{name}" if group else name
        if name not in known:
            what = f"{key}: {owner} has no such option" if owner else f"unknown key {key}"
            raise InputError(f"{what}; {nearest(name, known)}")
        check_value(key, value, known[name])


def check_value(key: str, value: Any, field: dataclasses.Field[Any]) -> None:
    """Checks the type and the range of one value.

    Raises:
      InputError: it does not fit; the message names the key and what would be right.
    """
    if not same_kind(value, field.default):
        wanted = type(field.default).__name__
        raise InputError(f"{key}: expected {wanted} as in {field.default!r}, got {value!r}")
    limits = field.metadata
    # Written so that NaN, which compares False with everything, is refused.
    for name, symbol, holds in (
        ("above", ">", lambda limit: value > limit),
        ("at_least", ">=", lambda limit: value >= limit),
        ("below", "<", lambda limit: value < limit),
        ("at_most", "<=", lambda limit: value <= limit),
    ):
        limit = limits.get(name)
        if limit is not None and not holds(limit):
            raise InputError(f"{key} must be {symbol} {limit!r}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} must be finite, got {value!r}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError(f"{key} must be <= {_LARGEST:,}, got {value!r:.50}")
    choices = limits.get("choices")
    if choices and value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise InputError(f"{key} must be one of {allowed}, got {value!r}")


def same_kind(value: Any, default: Any) -> bool:
    """Whether a value can replace a default: an integer may stand for a float, a string may not."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, float | int)
    if isinstance(default, tuple):
        return isinstance(value, tuple | list) and (
            not default or all(same_kind(element, default[0]) for element in value)
        )
    return isinstance(value, type(default))


def flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The settings of a config as (`a.b`, value) pairs."""
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
