"""A CSV or TSV file that lists images beside it: a path, and maybe a label and a split."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO

from ssljax.data.sets import columns
from ssljax.data.sets.source import Item, Source, inside, split_name
from ssljax.files import untrusted
from ssljax.settings.errors import InputError

SUFFIXES = (".csv", ".tsv")


def lists_images(path: pathlib.Path) -> bool:
    """Whether a table's first row names a file that is there."""
    try:
        roles = columns.find(_header(path), {}, path.name, {})
        name = next(_rows(path))[1][roles["image"]]
    except (InputError, StopIteration):
        return False
    return os.path.isfile(path.parent / name)  # False for what is no name of a file, too


def open_table(path: pathlib.Path, chosen: dict[str, str]) -> Source:
    """Reads the header of a table.

    Args:
      path: of the file; images are relative to its folder.
      chosen: see `columns.find`.

    Raises:
      InputError: the file cannot be read or has no column of images.
    """
    roles = columns.find(_header(path), chosen, str(path), {})

    def items() -> Iterator[Item]:
        for line, row in _rows(path):
            name = (row[roles["image"]] or "").strip()
            where = f"{path}, line {line}"
            if not name:
                raise InputError(f"{where}: the column {roles['image']!r} is empty")
            file, fault = inside(path.parent, name)
            split = (row[roles["split"]] or "").strip() if "split" in roles else ""
            label = (row[roles["label"]] or "").strip() if "label" in roles else ""
            yield Item(
                name, file, split=split and split_name(split), label=label or None, fault=fault
            )

    used = ", ".join(f"{role} in column {column!r}" for role, column in roles.items())
    return Source(f"a table of images, {used}", items)


def _header(path: pathlib.Path) -> list[str]:
    with _open(path) as file:
        try:
            names = next(csv.reader(untrusted.lines(file), delimiter=_delimiter(path)), [])
        except (csv.Error, ValueError) as error:
            raise InputError(f"{path}, line 1: {error}") from error
    if not names:
        raise InputError(f"--source: {path} is empty; its first line must name the columns")
    return names


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, row)."""
    with _open(path) as file:
        reader = csv.DictReader(untrusted.lines(file), delimiter=_delimiter(path), restval="")
        try:
            for row in reader:
                if None in row:
                    raise InputError(
                        f"{path}, line {reader.line_num}: more values than the first line has names"
                    )
                yield reader.line_num, row
        except (csv.Error, ValueError) as error:
            raise InputError(f"{path}, line {reader.line_num + 1}: {error}") from error


def _open(path: pathlib.Path) -> TextIO:
    try:
        untrusted.check_regular(path)
        return open(path, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"--source: {path} cannot be read: {error.strerror}") from error


def _delimiter(path: pathlib.Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    with _open(path) as file:
        try:
            header = next(untrusted.lines(file), "")
        except ValueError as error:
            raise InputError(f"{path}, line 1: {error}") from error
    return max((",", ";", "\t"), key=header.count)
