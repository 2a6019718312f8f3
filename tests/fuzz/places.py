"""What can be in the place of a file."""

from __future__ import annotations

import os
import pathlib
import random


def replace(path: pathlib.Path, rng: random.Random) -> str:
    """Puts something that is no regular file, or none of a usual size, in the place of a file.

    Returns:
      what it is.
    """
    path.unlink()
    name = rng.choice(list(KINDS))
    KINDS[name](path)
    return name


def _huge(path: pathlib.Path) -> None:
    """A file of 3 GiB without content, which takes no place on the disk."""
    with open(path, "wb") as file:
        file.truncate(3 * 2**30)


KINDS = {
    "nothing": lambda path: None,
    "an empty file": pathlib.Path.touch,
    "a named pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to another file": lambda path: path.symlink_to("/etc/passwd"),
    "a huge file": _huge,
}
