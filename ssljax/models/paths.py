"""Parameters by path, such as `backbone/conv1/kernel`, and patterns that choose some of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from ssljax.settings.errors import InputError, nearest

# A module whose parameters are those of several equal layers, stacked along their first axis.
STACKED = "blocks"


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of nested dicts by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(keys): leaf for keys, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        group = tree
        for parent in parents:
            group = group.setdefault(parent, {})
        group[name] = leaf
    return tree


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the leaves by path."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def match(patterns: str, paths: Iterable[str], setting: str, may_miss: bool = False) -> set[str]:
    """The paths that comma-separated shell patterns choose.

    A pattern chooses a path if it matches the path or the beginning of it up to a slash:
    `backbone/conv1` chooses `backbone/conv1/kernel`, and so does `backbone/conv*`.

    Args:
      patterns: such as `backbone/conv*,backbone/fc6`.
      paths: of the parameters.
      setting: the key that holds the patterns, for messages.
      may_miss: whether a pattern may match nothing.

    Raises:
      InputError: a pattern matches nothing.
    """
    known, chosen = list(paths), set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        matching = matching_paths(pattern, known)
        if not matching and not may_miss:
            layers = list(dict.fromkeys(path.rpartition("/")[0] for path in known))
            raise InputError(
                f"{setting}: {pattern!r} matches no parameter; {nearest(pattern, layers)}"
            )
        chosen |= matching
    return chosen


def matching_paths(pattern: str, paths: Iterable[str]) -> set[str]:
    """The paths that a single pattern chooses, see `match`; there may be none."""
    return {
        path
        for path in paths
        if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")
    }


def dimensions(path: str, leaf: Any) -> int:
    """The dimensions of a parameter; of stacked ones, those of a single layer's."""
    return int(leaf.ndim) - (STACKED in path.split("/"))


def path_of(keys: Sequence[Any]) -> str:
    """The path of a leaf of nested dicts, from the keys that jax's tree functions give."""
    return "/".join(str(key.key) for key in keys)
