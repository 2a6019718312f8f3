"""From a source to a prepared data set: check, divide, summarise, write."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ssljax.data.sets import checking, record_writer, splits
from ssljax.data.sets.index import Index
from ssljax.data.sets.source import Source
from ssljax.data.sets.summary import describe
from ssljax.files.new_folder import new_folder
from ssljax.settings.errors import InputError
from ssljax.settings.messages import show
from ssljax.settings.printable import shortened

_NAMED = 10  # the number of bad images that are named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chooses about a data set.

    Attributes:
      splits: the share of each, of a source without splits; see `splits.parse`.
      seed: of splits that are made.
      max_side: pixels; larger images are re-encoded; 0 leaves all as they are.
      drop_duplicates: leave out training images with a copy in a split that is evaluated.
      keep_duplicates: leave such copies where they are.
      skip_bad_images: leave out images that are missing or cannot be decoded.
    """

    splits: str = "train:90,validation:5,test:5"
    seed: int = 0
    max_side: int = 0
    drop_duplicates: bool = False
    keep_duplicates: bool = False
    skip_bad_images: bool = False


def prepare(
    source: Source, dataset: str, target: pathlib.Path, metadata: dict[str, Any], choices: Choices
) -> None:
    """Checks every image of a source, then writes the data set.

    Args:
      source: of the images.
      dataset: `name` or `name/config`.
      target: the folder of the prepared data set, which does not exist.
      metadata: is kept with the data set.
      choices: of the user.

    Raises:
      InputError: whatever is wrong with the source, or the folder cannot be written. Nothing stays.
    """
    shares = splits.parse(choices.splits)
    with (
        new_folder(target) as scratch,
        contextlib.closing(Index(scratch / "index.sqlite")) as index,
    ):
        checking.check(source, index, scratch / "spool", choices.max_side)
        bad = _without_bad_images(index, choices.skip_bad_images)
        made = _with_splits(index, shares, choices.seed)
        dropped = 0 if made else _without_leaks(index, choices)
        class_names = source.class_names or _class_names(index)
        show(*describe(index, class_names, made, choices.max_side))
        kept = {
            **metadata,
            "skipped_images": bad,
            "dropped_duplicates": dropped,
            "classes_with_images": _classes(index),
        }
        record_writer.write(scratch / "data", dataset, index, class_names, source.features, kept)


def _without_bad_images(index: Index, skip: bool) -> list[str]:
    """The names of the images that are left out."""
    total, count = index.count(), index.count("fault is not null")
    if not total:
        raise InputError("--source has no images")
    if not count:
        return []
    first = index.database.execute(
        f"select name, fault from images where fault is not null order by name limit {_NAMED}"
    )
    lines = [f"{count:,} of {total:,} images cannot be used:"]
    lines += [f"  {shortened(name)} {shortened(fault)}" for name, fault in first]
    lines += [f"  … and {count - _NAMED:,} more"] if count > _NAMED else []
    if count == total:
        raise InputError(*lines)
    if not skip:
        raise InputError(*lines, "repair them, or leave them out with --skip_bad_images")
    known = {name for (name,) in index.database.execute("select distinct split from images")}
    if lost := sorted(known - set(index.splits())):
        raise InputError(f"no image of the split {lost[0]} can be used; is the source complete?")
    show(f"left out: {lines[0]}", *lines[1:])
    rows = index.database.execute("select name from images where fault is not null order by name")
    return [name for (name,) in rows]


def _with_splits(index: Index, shares: dict[str, float], seed: int) -> bool:
    """Makes splits, if the source has none; returns whether it has none."""
    names = index.splits()
    if names == [""]:
        splits.make(index, shares, seed)
        return True
    if "" in names:
        query = "select name from images where fault is null and split = '' order by name limit 1"
        ((name,),) = index.database.execute(query)
        known = ", ".join(filter(None, names))
        raise InputError(f"--source: {name} is in no split, while others are in {known}")
    return False


def _without_leaks(index: Index, choices: Choices) -> int:
    """Handles copies in two given splits; returns the number of images that are dropped."""
    leaks = splits.find_leaks(index)
    if not leaks.copies:
        return 0
    text = f"{leaks.copies:,} images have a copy in another split, so a test would not be fair:"
    examples = [
        f"  {a}: {shortened(b)} is {c}: {shortened(d)}" for (a, b), (c, d) in leaks.examples
    ]
    if choices.drop_duplicates:
        show(f"dropped from the training side: {text}", *examples)
        splits.drop_leaks(index)
        return leaks.copies
    if choices.keep_duplicates:
        show(f"kept: {text}", *examples)
        return 0
    raise InputError(
        text,
        *examples,
        "--drop_duplicates drops them from the training side, --keep_duplicates keeps the splits "
        "as they are",
    )


def _class_names(index: Index) -> Sequence[str]:
    """The labels that occur, sorted; as numbers if all are."""
    names = [
        name
        for (name,) in index.database.execute(
            "select distinct label from images where fault is null and label is not null"
        )
    ]
    seen: dict[str, str] = {}
    for name in names:
        if "\n" in name or "\r" in name:
            raise InputError(f"--source: the class name {name!r} must be one line")
        kept = name.strip()  # as TFDS reads it
        if not kept:
            raise InputError(f"--source: the class name {name!r} is blank; rename it")
        if kept in seen:
            raise InputError(
                f"--source: the class names {seen[kept]!r} and {name!r} differ only in blanks; "
                "rename one"
            )
        seen[kept] = name
    if all(re.fullmatch(r"-?\d{1,18}", name, re.ASCII) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def _classes(index: Index) -> dict[str, int]:
    return dict(
        index.database.execute(
            "select split, count(distinct label) from images where fault is null group by split"
        )
    )
