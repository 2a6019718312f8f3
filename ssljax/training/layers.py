"""Choosing layers by name, for `init_layers` and `frozen_layers`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from ssljax.errors import InputError, nearest


def match(patterns: str, layers: Iterable[str], setting: str) -> set[str]:
    """The layers that comma-separated names or shell patterns, such as `conv*,fc6`, mean.

    Raises:
      InputError: a pattern matches no layer; the message begins with the setting's name.
    """
    known, chosen = list(layers), set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise InputError(f"{setting}: {pattern!r} matches no layer; {nearest(pattern, known)}")
        chosen |= set(matching)
    return chosen
