"""Parquet files as Hugging Face writes them: an image as bytes or as a path, a label, a split."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from ssljax.data.sets import columns
from ssljax.data.sets.source import Item, Source, inside, split_name, split_of_file
from ssljax.files import untrusted
from ssljax.settings.errors import InputError

SUFFIXES = (".parquet",)
_AT_ONCE = 64  # rows that are held in memory


def open_parquet(
    root: pathlib.Path, files: Sequence[pathlib.Path], chosen: dict[str, str]
) -> Source:
    """Reads the schema of parquet files.

    Args:
      root: their folder, which paths of images are relative to.
      files: in order.
      chosen: see `columns.find`.

    Raises:
      InputError: pyarrow is missing, a file is damaged, or no column can be the image.
    """
    first = _open(files[0])
    types = _hugging_face(first.schema_arrow.metadata or {}, files[0])
    like = {
        "image": [name for name, kind in types.items() if kind.get("_type") == "Image"],
        "label": [name for name, kind in types.items() if kind.get("_type") == "ClassLabel"],
    }
    roles = columns.find(first.schema_arrow.names, chosen, str(files[0]), like)
    names = tuple(str(name) for name in types.get(roles.get("label", ""), {}).get("names") or ())

    def items() -> Iterator[Item]:
        for path in files:
            table = _open(path)
            if missing := set(roles.values()) - set(table.schema_arrow.names):
                raise InputError(f"--source: {path} has no column {min(missing)!r}")
            short = path.relative_to(root).as_posix()
            split = split_of_file(short)
            for index, row in enumerate(_rows(table, list(roles.values()), path)):
                yield _item(root, f"{short}#{index}", row, roles, names, split)

    total = sum(_open(path).metadata.num_rows for path in files)
    used = ", ".join(f"{role} in column {column!r}" for role, column in roles.items())
    count = f"{len(files):,} parquet files" if len(files) > 1 else "a parquet file"
    return Source(f"{count}, {used}", items, names, total=total)


def _item(
    root: pathlib.Path,
    place: str,
    row: dict[str, Any],
    roles: dict[str, str],
    names: tuple[str, ...],
    split: str,
) -> Item:
    image = row[roles["image"]]
    if isinstance(image, dict):
        data, path = image.get("bytes"), image.get("path")
    else:
        data, path = (image, None) if isinstance(image, bytes) else (None, image)
    if "split" in roles:
        named = row[roles["split"]]
        if named is None or named == "":
            raise InputError(f"--source: {place} has no split in column {roles['split']!r}")
        split = split_name(str(named))
    label = _label(row.get(roles.get("label", "")), names, place)
    if data is not None:
        return Item(place, data=data, split=split, label=label)
    if not isinstance(path, str):
        return Item(place, data=b"", split=split, label=label, fault="has neither bytes nor a path")
    file, fault = inside(root, path)
    return Item(path, file, split=split, label=label, fault=fault)


def _label(value: Any, names: tuple[str, ...], place: str) -> str | None:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    if value is None or value == "" or (value == -1 and names):
        return None
    if not names or isinstance(value, str):
        return str(value)
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise InputError(f"{place}: label {value!r} must be from 0 to {len(names) - 1}")
    return names[value]


def _hugging_face(metadata: dict[bytes, bytes], path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The features that Hugging Face's `datasets` keeps in a file's metadata; {} without them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})["features"]
    except (ValueError, KeyError, AttributeError):
        return {}
    if not isinstance(features, dict):
        raise InputError(f"--source: {path}: its Hugging Face metadata are damaged")
    return {name: kind for name, kind in features.items() if isinstance(kind, dict)}


def _rows(table: Any, names: list[str], path: pathlib.Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in table.iter_batches(batch_size=_AT_ONCE, columns=names):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses
        raise InputError(f"--source: {path} is damaged: {_line(error)}") from error


def _open(path: pathlib.Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"--source: {path}: parquet files need pyarrow; `pip install -e '.[parquet]'`"
        ) from error
    try:
        untrusted.check_regular(path)
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--source: {path} cannot be read as parquet: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
