"""Checksums of the files of a checkpoint, which are compared when it is read.

`checksums.sha256` lies beside the items. `sha256sum --check checksums.sha256` reads it, too. It is
written before the checkpoint has its name, or in a bucket before orbax marks it as complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from orbax.checkpoint.path import atomicity

from ssljax.files import storage
from ssljax.runs.checkpoint_files import Unreadable

NAME = "checksums.sha256"
_LINE = re.compile(rb"([0-9a-f]{64})  ([!-~]{1,500})\n")
_LARGEST = 2**25  # bytes; a checkpoint has a hundred files, and some more for each process
_STEP_METADATA = "_CHECKPOINT_METADATA"  # orbax's


def write(checkpoint: pathlib.Path, but: tuple[str, ...] = ()) -> None:
    """Writes the checksums of all files of a checkpoint.

    Args:
      checkpoint: its folder.
      but: names of files that still change.

    Raises:
      OSError: a file cannot be read, or the checksums cannot be written.
    """
    try:
        lines = [
            f"{_digest(file)}  {name}\n"
            for name, file in sorted(_files(checkpoint))
            if name not in (NAME, *but)
        ]
    except Unreadable as error:
        raise OSError(errno.EIO, str(error)) from error
    storage.write_text(checkpoint / NAME, "".join(lines))


def verify(checkpoint: pathlib.Path, *items: str) -> None:
    """Compares the files of some items, and those beside the items, with their checksums.

    Args:
      checkpoint: its folder.
      items: such as `params`; those that the checkpoint does not have are left out.

    Raises:
      Unreadable: a file is missing, was added or altered, or is no regular file.
      OSError: the system cannot read one.
    """
    beside = dict(_files(checkpoint, within=False))
    if NAME not in beside:
        raise Unreadable(f"{NAME} is missing")
    listed = _read(beside[NAME])
    there = {name: file for name, file in beside.items() if name in listed}
    for item in items:
        there |= _files(checkpoint / item, f"{item}/")
    expected = {name for name in listed if "/" not in name or name.partition("/")[0] in items}
    if missing := sorted(expected - there.keys()):
        raise Unreadable(f"{missing[0]} is missing")
    if added := sorted(there.keys() - expected):
        raise Unreadable(f"{added[0]!r:.200} was not there when it was written")
    for name, file in sorted(there.items()):
        if _digest(file) != listed[name]:
            raise Unreadable(f"{name} has another checksum than when it was written")


def check_kinds(checkpoint: pathlib.Path) -> None:
    """Checks that a checkpoint has nothing but regular files and folders.

    Raises:
      Unreadable: it has, for example, a named pipe, and whoever opens that would wait forever.
      OSError: the system cannot list it.
    """
    for _ in _files(checkpoint):
        pass


def temporary_path_class(folder: pathlib.Path) -> type:
    """What orbax is to complete the checkpoints of a folder with, so that they have checksums."""
    return _MarkedWithChecksums if storage.is_remote(folder) else _RenamedWithChecksums


class _RenamedWithChecksums(atomicity.AtomicRenameTemporaryPath):
    """Orbax completes a checkpoint under a second temporary name; then it gets its own name."""

    @classmethod
    def from_final(cls, final_path: Any, **options: Any) -> Any:
        if not _is_step(final_path):
            return atomicity.AtomicRenameTemporaryPath.from_final(final_path, **options)
        second = final_path.with_name(f"{final_path.name}{atomicity.TMP_DIR_SUFFIX}-checksums")
        return super().from_final(second, **options)

    def get_final(self) -> Any:
        second = super().get_final()
        return second.with_name(second.name.partition(atomicity.TMP_DIR_SUFFIX)[0])

    async def finalize(self) -> None:
        await super().finalize()
        second = super().get_final()
        write(second)
        second.rename(self.get_final())


class _MarkedWithChecksums(atomicity.CommitFileTemporaryPath):
    """Objects of a bucket cannot be renamed; orbax's last file marks a checkpoint as complete."""

    async def finalize(self) -> None:
        if _is_step(self.get_final()):
            write(self.get(), but=(_STEP_METADATA,))
        await super().finalize()


def _is_step(path: pathlib.Path) -> bool:
    """Whether it is a whole checkpoint; orbax completes its items with the same class."""
    return path.name.isdecimal()


def _read(file: pathlib.Path) -> dict[str, str]:
    """The checksums by the names of the files."""
    with file.open("rb") as opened:
        data = opened.read(_LARGEST + 1)
    listed: dict[str, str] = {}
    for line in io.BytesIO(data):
        found = _LINE.fullmatch(line)
        if not found or len(data) > _LARGEST:
            raise Unreadable(f"{NAME} is cut short or altered")
        listed[found[2].decode()] = found[1].decode()
    return listed


def _digest(file: pathlib.Path) -> str:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
    raise Unreadable(f"{file.name} is missing")


def _files(
    folder: pathlib.Path, prefix: str = "", within: bool = True
) -> Iterator[tuple[str, pathlib.Path]]:
    """The names, after a prefix, and the paths of the files in a folder, if there is one.

    Args:
      folder: of a checkpoint or an item.
      prefix: of the names.
      within: also those in folders within it.

    Raises:
      Unreadable: one is neither a regular file nor a folder. Links to files are followed.
      OSError: the system cannot list it.
    """
    folders = [(prefix, folder)]
    while folders:
        prefix, folder = folders.pop()
        for path, is_folder in _entries(folder):
            if not is_folder:
                yield prefix + path.name, path
            elif within:
                folders.append((f"{prefix}{path.name}/", path))


def _entries(folder: pathlib.Path) -> list[tuple[pathlib.Path, bool]]:
    """What is in a folder, and whether it is a folder."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if storage.is_remote(folder):
            return [(path, path.is_dir()) for path in folder.iterdir()]
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file():
                    raise Unreadable(f"{entry.name!r:.200} is no regular file")
                found.append((folder / entry.name, is_folder))
    return found
