"""Runs a TFDS builder so that its data set is written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import pathlib
import re
import shutil
import tempfile
import time

import tensorflow_datasets as tfds

from ssljax.settings.errors import InputError

STALE_SECONDS = 3600


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Prepares the builder's data set as ArrayRecord, unless it is already there.

    Args:
      builder: made with `file_format='array_record'`.

    Raises:
      InputError: the disk is full or the folder cannot be written; nothing half-written stays.
    """
    target = pathlib.Path(builder.data_dir)
    if builder.is_prepared():
        return
    root = next(parent for parent in target.parents if parent.exists())
    _remove_stale(target)
    config = tfds.download.DownloadConfig(try_download_gcs=False, register_checksums=False)
    tfds.disable_progress_bar()
    try:
        # TFDS needs a folder for downloads and announces it, although nothing is downloaded.
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=scratch, download_config=config)
    except (OSError, RuntimeError) as error:  # ArrayRecord's writer raises RuntimeError
        if builder.is_prepared():
            return  # another process has prepared it in the meantime
        full = f"{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EDQUOT)}"
        why = "the disk is full" if re.search(full, str(error)) else str(error)
        raise InputError(f"cannot write {target}: {why}") from error
    finally:
        if not builder.is_prepared():
            _remove_empty(target, root)


def _remove_stale(target: pathlib.Path) -> None:
    """Removes unfinished folders that an earlier, killed preparation left behind."""
    for leftover in target.parent.glob(f"incomplete.*{target.name}"):
        newest = max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
        if time.time() - newest > STALE_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _remove_empty(target: pathlib.Path, root: pathlib.Path) -> None:
    """Removes the folders that a failed preparation made below root."""
    for folder in itertools.takewhile(lambda parent: parent != root, target.parents):
        if folder.exists() and {path.name for path in folder.iterdir()} <= {".config"}:
            shutil.rmtree(folder, ignore_errors=True)  # TFDS writes .config
