"""A lock file keeps other processes from writing to a folder."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import pathlib
import re
import socket
from collections.abc import Iterator

from ssljax.files import storage, untrusted
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say


class Busy(InputError):
    """Another process holds the lock."""


@contextlib.contextmanager
def lock(path: pathlib.Path, message: str) -> Iterator[None]:
    """Holds a lock file; the lock is released when the process ends, however it ends.

    The file says who holds it.

    Args:
      path: the lock file; its folder is created if needed. Buckets have no locks.
      message: of the error if another process holds it; which one is added.

    Raises:
      Busy: another process holds it.
      InputError: the folder cannot be written.
    """
    if storage.is_remote(path):
        _warn_that_buckets_have_no_locks()
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            untrusted.check_regular(path)
        file = open(path, "ab", buffering=0)  # noqa: SIM115, closed below
    except OSError as error:
        raise InputError(f"--workdir: cannot write {path.parent}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"{message} ({_holder(path)})") from error
        except OSError as error:  # some network file systems have no locks
            say(f"{path.parent} cannot be locked: {error.strerror}")
        with contextlib.suppress(OSError):  # the lock holds without its holder's name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _holder(path: pathlib.Path) -> str:
    """Who holds a lock, and whether that process is stopped, if it is on this machine."""
    holder = path.read_bytes()[:200].decode(errors="replace") or "an unknown process"
    own = re.fullmatch(rf"process (\d+) on {re.escape(socket.gethostname())}", holder)
    with contextlib.suppress(OSError):
        if own and "\nState:\tT" in pathlib.Path(f"/proc/{own[1]}/status").read_text():
            return f"{holder}, which is stopped: `kill -CONT {own[1]}` lets it go on"
    return holder


@functools.cache
def _warn_that_buckets_have_no_locks() -> None:
    say("gs:// has no locks: run one command at a time on a folder there")
