"""A file that is written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def new_file(target: pathlib.Path) -> Iterator[BinaryIO]:
    """Gives a scratch file beside the target, which it becomes at the end.

    Several processes may write the same target at the same time; one of their files stays, whole.
    If the block raises, nothing stays.

    Raises:
      OSError: it cannot be written.
    """
    scratch = target.with_name(f".{secrets.token_hex(4)}.tmp")
    # "x" follows no link that is there, as in a stranger's folder.
    with open(scratch, "xb") as file:
        try:
            yield file
            file.close()
            os.replace(scratch, target)
        except BaseException:
            scratch.unlink(missing_ok=True)  # the disk may be full
            raise
