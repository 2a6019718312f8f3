"""Folders and files on disks and on Google Cloud Storage: what `gs://BUCKET/FOLDER` means.

A bucket knows whole objects only: no folders without files, no appending, no locks.
"""

from __future__ import annotations

import errno
import functools
import os
import pathlib
import re
import shutil
from typing import Any

from ssljax.errors import InputError

# pathlib makes `gs:/BUCKET` of it.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):/+(.*)", re.DOTALL)


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Whether it names object storage, such as `gs://BUCKET/FOLDER`, instead of a disk."""
    return _ADDRESS.fullmatch(os.fspath(name)) is not None


def path(name: str | os.PathLike[str], setting: str) -> pathlib.Path:
    """A path on a disk, or its likeness by etils on Google Cloud Storage.

    Args:
      name: a path, or `gs://BUCKET/FOLDER`.
      setting: where the user gave it, for messages.

    Raises:
      InputError: it names other storage, a bucket that cannot be listed, or gcsfs is not installed.
    """
    address = _ADDRESS.fullmatch(os.fspath(name))
    if address is None:
        return pathlib.Path(name)
    scheme, place = address.groups()
    if scheme != "gs":
        raise InputError(
            f"{setting}: {scheme}:// cannot be used: of object storage, orbax and ArrayRecord know "
            f"gs:// alone; name a folder, such as one that {scheme}://{place} is mounted at"
        )
    if not place.strip("/"):
        raise InputError(f"{setting}: {name} names no bucket")
    try:
        _check_bucket(place.partition("/")[0])
    except ImportError as error:
        raise InputError(
            f"{setting}: gs:// needs gcsfs, which cannot be imported ({error}); "
            "`pip install ssljax[gcs]`"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{setting}: there is no bucket gs://{place.partition('/')[0]}") from error
    except Exception as error:  # gcsfs passes on those of four libraries
        raise InputError(
            f"{setting}: gs://{place} cannot be reached: {_first_line(error)}"
        ) from error
    from etils import epath

    return epath.Path(f"gs://{place}")


@functools.cache
def _check_bucket(bucket: str) -> None:
    # One way of access, the one that is tested, whether TensorFlow is installed or not.
    os.environ["EPATH_USE_TF"] = "false"
    files = _bucket_files()
    files.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)


def _bucket_files() -> Any:
    """The file system that etils uses; it remembers no listing, for orbax writes past it."""
    import fsspec

    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return fsspec.filesystem("gcs", finalize_on_close=True)


def write(file: pathlib.Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all.

    Raises:
      OSError: it cannot be written.
    """
    if is_remote(file):
        try:
            file.write_bytes(data)
        except Exception as error:
            raise OSError(errno.EIO, _first_line(error), str(file)) from error
        return
    scratch = file.with_name(file.name + ".tmp")
    scratch.write_bytes(data)
    os.replace(scratch, file)


def move_folder(source: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a folder with all that is in it; what was at the target before is removed."""
    if is_remote(source):
        files = _bucket_files()
        if files.exists(str(target)):
            files.rm(str(target), recursive=True)
        files.mv(str(source), str(target), recursive=True)
        return
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
