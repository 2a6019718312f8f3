"""Runs a command of ssljax as a user does, in a process that is watched.

The process is forked from one that has imported the libraries, which saves their seconds. It has
its own terminal output, home and working folder.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import os
import pathlib
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from ssljax.runs import folder
from tests.hostile import acting

LIBRARIES = (
    "jax", "flax", "optax", "orbax.checkpoint", "PIL.Image", "tensorflow_datasets", "grain.python",
    "torch", "safetensors.torch", "pyarrow.parquet", "ssljax.training.loop", "ssljax.studies.plan",
    "ssljax.report.run_page",
)  # fmt: skip
SECONDS = 20  # that a command may take
MEMORY = 2 * 2**30  # bytes that it may have at a time

_OUTSIDE = "outside of its folders:"
_STARTED = "started another program:"
_STARTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pty.spawn")
# A run records the version of the code, by the only program that ssljax starts besides its readers.
_GIT = ["git", "-C", str(pathlib.Path(folder.__file__).parent)]
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.truncate", "shutil.rmtree", "shutil.move", "shutil.copyfile")  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
      code: its exit code; negative: the signal that ended it.
      output: of both streams.
      seconds: how long it took.
      late: whether it was ended, because it took too long.
      memory: bytes of its process at most.
    """

    code: int
    output: str
    seconds: float
    late: bool
    memory: int

    def fault(self) -> str:
        """What a command must not do, whatever it is given; empty if it did none of it."""
        if self.late:
            return f"not done after {self.seconds:.0f} seconds"
        if "Traceback (most recent call last)" in self.output:
            return "a traceback"
        if self.code not in (0, 1, 2):
            return f"ended with {self.code}"
        if self.memory > MEMORY:
            return f"{self.memory / 2**30:.1f} GiB of memory"
        if found := re.search(f"(?:{_OUTSIDE}|{_STARTED}).*", self.output):
            return found[0]
        if escapes := acting(self.output.replace("\r", "")):
            return f"printed {escapes[0]!r}"
        return ""


def import_libraries() -> None:
    """Imports what commands need, but starts none of it."""
    for name in LIBRARIES:
        importlib.import_module(name)


def apart(function: Callable[[], object]) -> None:
    """Calls a function in a process of its own, so that no thread of libraries is started here."""
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
        return
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def run(
    arguments: list[str],
    world: pathlib.Path,
    allowed: pathlib.Path | None = None,
    seconds: float = SECONDS,
) -> Ended:
    """Runs `python -m ssljax.COMMAND …`.

    Args:
      arguments: the name of the command, and its arguments.
      world: a folder with its `home`, `tmp` and `cwd`.
      allowed: the folder in which it may write; None: `world`.
      seconds: after which it is killed.
    """
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            _become(arguments, world, allowed or world, output.fileno())
        with contextlib.suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(pid, pid)
        handle = os.pidfd_open(pid)
        ended, _, _ = select.select([handle], [], [], seconds)
        took = time.monotonic() - started
        os.close(handle)
        if not ended:
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        output.seek(0)
        text = output.read().decode(errors="backslashreplace")
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, text, took, not ended, used.ru_maxrss * 1024)


def _become(arguments: list[str], world: pathlib.Path, allowed: pathlib.Path, output: int) -> None:
    """The new process; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.environ.update(HOME=str(world / "home"), TMPDIR=str(world / "tmp"))
        tempfile.tempdir = None
        os.chdir(world / "cwd")
        name, *sys.argv[1:] = arguments
        sys.argv[0] = f"ssljax-{name}"
        module = importlib.import_module(f"ssljax.{name}")
        _watch(allowed)
        module.cli()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # as Python does at its end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(allowed: pathlib.Path) -> None:
    """Reports in the output what is written elsewhere, and other programs that are started."""

    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")  # where tests keep compiled programs
    folders = (f"{allowed}/", "/dev/", "/proc/", *([f"{kept}/"] if kept else []))

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = values
            if not isinstance(flags, int) or not flags & _WRITING:
                return
        elif event in _CHANGES:
            path = values[0]
        elif event in _STARTS:
            if event == "subprocess.Popen" and list(values[1])[:3] == _GIT:
                return
            os.write(2, f"\n{_STARTED} {event} {values}\n".encode(errors="backslashreplace"))
            return
        else:
            return
        if isinstance(path, int) or (event == "os.mkdir" and os.path.isdir(path)):
            return
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith(folders):
            os.write(2, f"\n{_OUTSIDE} {event} {name}\n".encode(errors="backslashreplace"))

    sys.addaudithook(hook)
