"""What `--help` says about settings: a line each, as they are given on a command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ssljax.settings.printable import quoted

Fields = Mapping[str, dataclasses.Field[Any]]

_COLUMN = 44  # where the help text begins


def table(values: Mapping[str, Any], fields: Fields) -> str:
    """Lists settings with their values, help texts and ranges.

    Args:
      values: by key, such as `data.image_size`.
      fields: the options by key; they give the order. A value without one has no help text.
    """
    keys = [key for key in fields if key in values]
    keys += [key for key in values if key not in fields]
    return "\n".join(_line(key, values[key], fields.get(key)) for key in keys)


def _line(key: str, value: Any, field: dataclasses.Field[Any] | None) -> str:
    setting = f"  --config.{key}={_typed(value)}"
    if field is None:
        return setting
    gap = " " * (_COLUMN - len(setting)) if len(setting) < _COLUMN else "\n" + " " * _COLUMN
    limits = _limits(field.metadata)
    return f"{setting}{gap}{field.metadata['help']}{f' ({limits})' if limits else ''}"


def _limits(metadata: Mapping[str, Any]) -> str:
    """The range of an option, such as `> 0, <= 10`."""
    if metadata["choices"]:
        return " | ".join(_typed(choice) for choice in metadata["choices"])
    symbols = {"above": ">", "at_least": ">=", "below": "<", "at_most": "<="}
    return ", ".join(
        f"{symbol} {metadata[name]:,}"
        for name, symbol in symbols.items()
        if metadata[name] is not None
    )


def _typed(value: Any) -> str:
    """A value as it is typed in a shell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return quoted(",".join(map(repr, value)) or "()")
    return quoted(str(value))
