"""Reads the annotation lists of DeepFashion's Category and Attribute Prediction Benchmark.

The folder is as users receive it, in its older or its newer layout:

    Anno/ or Anno_coarse/    list_category_cloth.txt  list_category_img.txt  list_bbox.txt
    Eval/                    list_eval_partition.txt
    Img/img/… or img/…       the photographs

Every row is checked, and every error names the file and the line.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

from ssljax.files import untrusted
from ssljax.settings.errors import InputError

_LARGEST = 2**28  # bytes of a list; the longest of the real ones has 26 million
PARTITIONS = {"train": "train", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One row of the listing.

    Attributes:
      name: as listed, such as `img/Sheer_Pleated-Front_Blouse/img_00000001.jpg`.
      path: of the file.
      label: 0-based category.
      bbox: x_1, y_1, x_2, y_2 in pixels, as listed.
      partition: `train`, `validation` or `test`.
    """

    name: str
    path: pathlib.Path
    label: int
    bbox: tuple[int, int, int, int]
    partition: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """All photographs in the order of the listing, and the name of each label.

    Attributes:
      root: the folder that the names are relative to.
    """

    root: pathlib.Path
    class_names: tuple[str, ...]
    photographs: tuple[Photograph, ...]


def read_listing(folder: str | pathlib.Path) -> Listing:
    """Reads all four lists and joins them by image name.

    There is a class for every id up to the highest id that has an image.

    Raises:
      InputError: a list is missing, malformed or contradicts another one, or the photographs are
        missing or still packed.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise InputError(f"--source: {root} is not a folder")
    annotations = _annotation_folder(root)
    photographs = _photograph_folder(root)
    categories = _read_categories(annotations / "list_category_cloth.txt")
    boxes = _read_boxes(annotations / "list_bbox.txt")
    partitions = _read_partitions(root / "Eval" / "list_eval_partition.txt")

    listing = annotations / "list_category_img.txt"
    rows: dict[str, Photograph] = {}
    for line, (name, text) in _rows(listing, columns=2):
        where = f"{listing}, line {line}"
        category = _integer(text, where)
        if not 1 <= category <= len(categories):
            raise InputError(
                f"{where}: category {category} of {name} is out of range; "
                f"list_category_cloth.txt has 1 to {len(categories)}"
            )
        if name in rows:
            raise InputError(f"{where}: {name} is listed twice")
        for other, known in (("list_bbox.txt", boxes), ("list_eval_partition.txt", partitions)):
            if name not in known:
                raise InputError(f"{where}: {name} is not listed in {other}")
        rows[name] = Photograph(
            name, photographs / _inside(name, where), category - 1, boxes[name], partitions[name]
        )
    if not rows:
        raise InputError(f"{listing} lists no images")
    for other, known in (("list_bbox.txt", boxes), ("list_eval_partition.txt", partitions)):
        if surplus := set(known) - set(rows):
            raise InputError(
                f"{other} lists {len(surplus)} images that {listing} does not, "
                f"such as {min(surplus)}"
            )
    highest = max(row.label for row in rows.values())
    return Listing(photographs, tuple(categories[: highest + 1]), tuple(rows.values()))


def recognises(folder: pathlib.Path) -> bool:
    """Whether a folder looks like DeepFashion's, complete or not."""
    return (
        any((folder / name).is_dir() for name in ("Anno", "Anno_coarse"))
        or (folder / "Eval" / "list_eval_partition.txt").is_file()
    )


def _annotation_folder(root: pathlib.Path) -> pathlib.Path:
    for name in ("Anno_coarse", "Anno"):
        if (root / name / "list_category_img.txt").is_file():
            return root / name
    raise InputError(
        f"{root}: there is no Anno/list_category_img.txt or Anno_coarse/list_category_img.txt"
    )


def _photograph_folder(root: pathlib.Path) -> pathlib.Path:
    for parent in (root / "Img", root):
        if (parent / "img").is_dir() and any((parent / "img").iterdir()):
            return parent
    for archive in (root / "Img" / "img.zip", root / "img.zip"):
        if archive.is_file():
            raise InputError(
                f"{archive} is not unpacked yet: run `unzip -q {archive} -d {archive.parent}`"
            )
    raise InputError(f"{root}: no photographs in Img/img or img")


def _rows(path: pathlib.Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, columns) of a list: the count, a header, then that many rows."""
    try:
        lines = untrusted.read_bytes(path, _LARGEST).decode().split("\n")
    except FileNotFoundError as error:
        raise InputError(f"annotation file {path} is missing") from error
    except OSError as error:
        raise InputError(f"annotation file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"annotation file {path} cannot be read: {error}") from error
    count = _integer(lines[0].strip(), f"{path}, line 1: the number of rows")
    rows = [(number, line) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    if len(rows) != count:
        raise InputError(f"{path}: line 1 announces {count} rows, but there are {len(rows)}")
    for number, line in rows:
        # Names come first and may contain spaces; the other columns may not.
        values = line.strip().rsplit(None, columns - 1)
        if len(values) != columns:
            raise InputError(f"{path}, line {number}: expected {columns} columns, got {line!r}")
        yield number, values


def _integer(text: str, where: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise InputError(f"{where}: expected an integer, got {text!r:.50}") from error
    if abs(value) >= 2**31:  # records have 32 bits for each
        raise InputError(f"{where}: expected an integer below 2,147,483,648, got {text:.50}")
    return value


def _inside(name: str, where: str) -> pathlib.PurePosixPath:
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(f"{where}: image name {name!r} points outside the folder")
    return path


def _read_categories(path: pathlib.Path) -> list[str]:
    names: list[str] = []
    for line, (name, _) in _rows(path, columns=2):
        if name in names:
            raise InputError(f"{path}, line {line}: category {name!r} is listed twice")
        names.append(name)
    return names


def _read_boxes(path: pathlib.Path) -> dict[str, tuple[int, int, int, int]]:
    boxes = {}
    for line, (name, *corners) in _rows(path, columns=5):
        x_1, y_1, x_2, y_2 = (_integer(corner, f"{path}, line {line}") for corner in corners)
        boxes[name] = (x_1, y_1, x_2, y_2)
    return boxes


def _read_partitions(path: pathlib.Path) -> dict[str, str]:
    partitions = {}
    for line, (name, status) in _rows(path, columns=2):
        if status not in PARTITIONS:
            raise InputError(
                f"{path}, line {line}: unknown partition {status!r}; known: {list(PARTITIONS)}"
            )
        partitions[name] = PARTITIONS[status]
    return partitions
