"""A folder that is written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import pathlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator

from ssljax.settings.errors import InputError

_PREFIX = "incomplete."
_FULL = re.compile(f"{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EDQUOT)}|disk is full")


@contextlib.contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a scratch folder; what is in its folder `data` at the end becomes the target.

    The scratch folder is beside the target. It is removed at the end, and those that killed
    processes have left are removed at the beginning. If another process has written the target in
    the meantime, that one stays.

    Raises:
      InputError: the folder cannot be written; nothing stays.
    """
    root = next(parent for parent in target.parents if parent.exists())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(target.parent)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
        lock = os.open(scratch, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system releases it when the process ends
            (scratch / "data").mkdir()
            yield scratch
            for path in (*(scratch / "data").iterdir(), scratch / "data"):
                _to_disk(path)
            with contextlib.suppress(FileExistsError):
                os.rename(scratch / "data", target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            os.close(lock)
    except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: ArrayRecord's writer
        why = "the disk is full" if _FULL.search(str(error)) else str(error)
        raise InputError(f"cannot write {target}: {why}") from error
    finally:
        for folder in itertools.takewhile(lambda parent: parent != root, target.parents):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty


def _remove_left(folder: pathlib.Path) -> None:
    for left in folder.iterdir():
        if not left.name.startswith(_PREFIX) or not left.is_dir() or left.is_symlink():
            continue
        lock = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass  # its process still runs
        finally:
            os.close(lock)


def _to_disk(path: pathlib.Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
