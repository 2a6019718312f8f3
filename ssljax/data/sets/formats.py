"""The formats of sources, and which one a source is in."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

from ssljax.data.sets import folder, parquet, table, webdataset
from ssljax.data.sets.deep_fashion import lists
from ssljax.data.sets.source import SUFFIXES as IMAGES
from ssljax.data.sets.source import Source
from ssljax.settings.errors import InputError


@dataclasses.dataclass(frozen=True)
class Format:
    """How sources of a format are opened.

    Attributes:
      open: gets the path and the chosen columns.
      recognises: whether a path is in this format; the first format that does is taken.
      config: of the prepared data set; empty if it has none.
      name: of the prepared data set, if the user gives none; empty: made of the source's name.
      has_columns: whether `open` uses the chosen columns.
    """

    open: Callable[[pathlib.Path, dict[str, str]], Source]
    recognises: Callable[[pathlib.Path], bool] = lambda path: False
    config: str = ""
    name: str = ""
    has_columns: bool = False


def _files(path: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """The file itself, or those below a folder, sorted."""
    if path.is_file():
        return [path] if path.name.lower().endswith(tuple(suffixes)) else []
    return sorted(
        pathlib.Path(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
    )


def _consists_of(path: pathlib.Path, suffixes: Sequence[str]) -> bool:
    """Whether there are such files, and no images beside them."""
    return bool(_files(path, suffixes)) and not (path.is_dir() and _files(path, [*IMAGES]))


def _some_files(path: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    if not (files := _files(path, suffixes)):
        raise InputError(f"--source: {path} has no file with {' or '.join(suffixes)}")
    top = os.path.realpath(path)
    for file in files:
        # `Path.resolve` would fail at a link to itself.
        if file.is_symlink() and file != path and not _is_below(os.path.realpath(file), top):
            raise InputError(f"--source: {file} is a link that leaves the source; name the file")
    return files


def _is_below(file: str, folder: str) -> bool:
    return os.path.commonpath([file, folder]) == folder


def _folder_of(path: pathlib.Path) -> pathlib.Path:
    return path.parent if path.is_file() else path


def _table(path: pathlib.Path) -> pathlib.Path | None:
    """The only table at the top of a folder, if it lists images."""
    if path.is_file():
        return path if path.suffix.lower() in table.SUFFIXES else None
    tables = [file for file in path.iterdir() if file.suffix.lower() in table.SUFFIXES]
    return tables[0] if len(tables) == 1 and table.lists_images(tables[0]) else None


def _open_table(path: pathlib.Path, columns: dict[str, str]) -> Source:
    found = _table(path)
    if found is None:
        raise InputError(
            f"--source: {path} is not a table, and has not exactly one that lists images; "
            "name the .csv or .tsv file"
        )
    return table.open_table(found, columns)


def _open_folder(path: pathlib.Path, labelled: bool) -> Source:
    if not path.is_dir():
        raise InputError(f"--source: {path} is not a folder")
    return folder.open_folder(path, labelled)


def _open_deep_fashion(path: pathlib.Path, config: str) -> Source:
    from ssljax.data.sets.deep_fashion.photographs import open_deep_fashion  # imports TFDS

    return open_deep_fashion(path, config)


FORMATS: dict[str, Format] = {
    "deep_fashion/slides": Format(
        lambda path, columns: _open_deep_fashion(path, "slides"),
        lists.recognises,
        config="slides",
        name="deep_fashion",
    ),
    "deep_fashion/official": Format(
        lambda path, columns: _open_deep_fashion(path, "official"),
        config="official",
        name="deep_fashion",
    ),
    "parquet": Format(
        lambda path, columns: parquet.open_parquet(
            _folder_of(path), _some_files(path, parquet.SUFFIXES), columns
        ),
        lambda path: _consists_of(path, parquet.SUFFIXES),
        has_columns=True,
    ),
    "webdataset": Format(
        lambda path, columns: webdataset.open_webdataset(
            _folder_of(path), _some_files(path, webdataset.SUFFIXES)
        ),
        lambda path: _consists_of(path, webdataset.SUFFIXES),
    ),
    "csv": Format(_open_table, lambda path: _table(path) is not None, has_columns=True),
    "folder": Format(
        lambda path, columns: _open_folder(path, labelled=True), lambda path: path.is_dir()
    ),
    "folder/unlabelled": Format(lambda path, columns: _open_folder(path, labelled=False)),
}


def recognise(path: pathlib.Path) -> str:
    """The name of the format that a source is in.

    Raises:
      InputError: it is in none of them.
    """
    if not path.exists():
        raise InputError(f"--source: there is no {path}")
    for name, kind in FORMATS.items():
        if kind.recognises(path):
            return name
    raise InputError(
        f"--source: {path} is not recognised; it must be a folder of images, or a file ending in "
        f"{', '.join((*table.SUFFIXES, *parquet.SUFFIXES, *webdataset.SUFFIXES))}"
    )
