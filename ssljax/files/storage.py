"""Folders and files on disks and on Google Cloud Storage (`gs://BUCKET/FOLDER`).

A bucket stores whole objects: it has no empty folders, no appending and no locks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from ssljax.files.new_file import new_file
from ssljax.settings.errors import InputError, first_line

# pathlib turns gs://BUCKET into gs:/BUCKET.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):/+(.*)", re.DOTALL)
# Orbax takes the paths of its folders for patterns; tensorstore takes \ for / and wants UTF-8.
_NOT_LITERAL = re.compile(r"[][*?\\\udc80-\udcff]")


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Whether a name is an address of object storage, such as `gs://BUCKET/FOLDER`."""
    return _ADDRESS.fullmatch(os.fspath(name)) is not None


def path(name: str | os.PathLike[str], setting: str) -> pathlib.Path:
    """The path that a user means: on a disk, or on Google Cloud Storage through etils.

    Args:
      name: a path, in which `~` is the home folder, or `gs://BUCKET/FOLDER`.
      setting: the flag or key that the user gave it with, for messages.

    Raises:
      InputError: another kind of storage, a bucket that cannot be listed, or gcsfs is missing.
    """
    address = _ADDRESS.fullmatch(os.fspath(name))
    if address is None:
        return pathlib.Path(os.path.expanduser(name))
    scheme, place = address.groups()
    if scheme != "gs":
        raise InputError(
            f"{setting}: {scheme}:// cannot be used: orbax and ArrayRecord support gs:// only; "
            f"mount the storage and name that folder instead of {scheme}://{place}"
        )
    if not place.strip("/"):
        raise InputError(f"{setting}: {name} names no bucket")
    if _NOT_LITERAL.search(place):
        raise InputError(f"{setting}: gs://{place}: a folder in a bucket cannot have []*?\\ in it")
    try:
        _check_bucket(place.partition("/")[0])
    except ImportError as error:
        raise InputError(
            f"{setting}: gs:// needs gcsfs, which cannot be imported ({error}); "
            "`pip install -e '.[gcs]'`"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{setting}: there is no bucket gs://{place.partition('/')[0]}") from error
    except Exception as error:  # gcsfs passes on the exceptions of four libraries
        raise InputError(
            f"{setting}: gs://{place} cannot be reached: {first_line(error)}"
        ) from error
    from etils import epath

    return epath.Path(f"gs://{place}")


@contextlib.contextmanager
def literal(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to an existing folder that no library can take for a pattern, such as `run[1]`.

    It is valid within the context and in this process.
    """
    if is_remote(folder) or not _NOT_LITERAL.search(str(folder)):
        yield folder
        return
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield pathlib.Path(f"/proc/self/fd/{opened}")
    finally:
        os.close(opened)


@functools.cache
def _check_bucket(bucket: str) -> None:
    # Access is the same whether TensorFlow is installed or not.
    os.environ["EPATH_USE_TF"] = "false"
    files = _bucket_files()
    files.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)


def _bucket_files() -> Any:
    """The file system that etils uses, without its cache of listings: orbax writes past it."""
    import fsspec

    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return fsspec.filesystem("gcs", finalize_on_close=True)


def write(file: pathlib.Path, data: bytes) -> None:
    """Writes a file atomically: it is there whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    if is_remote(file):
        try:
            file.write_bytes(data)
        except Exception as error:
            raise OSError(errno.EIO, first_line(error), str(file)) from error
        return
    with new_file(file) as new:
        new.write(data)


def write_text(file: pathlib.Path, text: str) -> None:
    """Writes a text file, see `write`."""
    write(file, text.encode())


def write_json(file: pathlib.Path, value: Any) -> None:
    """Writes a JSON file, see `write`."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def move_folder(source: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a folder; one that is at the target already is removed."""
    if is_remote(source):
        files = _bucket_files()
        if files.exists(str(target)):
            files.rm(str(target), recursive=True)
        files.mv(str(source), str(target), recursive=True)
        return
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
