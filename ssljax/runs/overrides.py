"""The overrides `--config.a.b=value` on a command line, before ml_collections parses them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError, nearest

_NAMES = re.compile(r"[\w +-]+(,[\w +-]+)*,?")


def check_keys(config: ConfigDict, argv: Sequence[str]) -> None:
    """Checks the keys of all overrides.

    Raises:
      InputError: names the first key that the config does not have.
    """
    for argument in argv:
        group: object = config
        keys = _keys(argument)
        for depth, key in enumerate(keys):
            if not isinstance(group, ConfigDict) or key not in group:
                known = list(group) if isinstance(group, ConfigDict) else []
                raise InputError(
                    f"--config: unknown key {'.'.join(keys[: depth + 1])}: "
                    + (nearest(key, known) if known else "the key before it is a value")
                )
            group = group[key]


def quote_names(config: ConfigDict, argv: Sequence[str]) -> list[str]:
    """Writes `--config.probes=knn,linear` as ml_collections takes it: `('knn', 'linear')`.

    It takes `1,0.1` for a tuple of two numbers, but `knn,linear` for one string.

    Args:
      config: has the keys of all overrides.
      argv: the command line.

    Returns:
      The command line, in which comma-separated names that override a tuple are quoted.
    """
    written: list[str] = []
    of_tuple = False  # whether this argument is the value of the flag before it
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if of_tuple:
            written.append(_quoted(argument))
            of_tuple = False
        elif _is_tuple(config, _keys(argument)):
            written.append(f"{flag}={_quoted(value)}" if equals else flag)
            of_tuple = not equals
        else:
            written.append(argument)
    return written


def _keys(argument: str) -> list[str]:
    """`a`, `b` of `--config.a.b=value`; empty if an argument is no override."""
    if not argument.startswith("-"):  # the value of a flag, as in `--out config.png`
        return []
    first, *keys = argument.lstrip("-").partition("=")[0].split(".")
    return keys if first in ("config", "noconfig") else []  # --noconfig.a.b switches off


def _is_tuple(config: ConfigDict, keys: Sequence[str]) -> bool:
    value: object = config
    for key in keys:
        value = value[key] if isinstance(value, ConfigDict) else None
    return isinstance(value, tuple)


def _quoted(value: str) -> str:
    """A tuple of names as Python writes it; any other value stays as it is."""
    if not _NAMES.fullmatch(value):
        return value
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return repr(tuple(name.strip() for name in value.rstrip(",").split(",")))
    return value  # of numbers
