"""How a command's process ends: one-line errors, exit codes and signals.

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ssljax.settings.errors import Ending, InputError, Interrupted
from ssljax.settings.messages import say
from ssljax.settings.printable import printable_lines, shortened

_LONGEST_ERROR = 4000  # characters; the longest path has 4,096 bytes


def run_command(name: str, main: Callable[[], None]) -> None:
    """Runs main() as the whole work of this process, which ends with a line and an exit code.

    0: done. 1: training failed, or the system refused something. 2: a mistake of the user.
    128 + N: ended by signal N, such as 130 by Ctrl-C and 143 by SIGTERM.
    """

    def end(message: str, code: int, shared: bool = False, more: Sequence[str] = ()) -> None:
        say(*(shortened(line, _LONGEST_ERROR) for line in (f"{name}: {message}", *more)))
        if shared:
            disconnect()
        # Immediately: after a failure, threads of libraries would print their own errors.
        os._exit(code)

    def end_at_once(number: int, frame: object) -> None:
        # An exception could come in the middle of a library, which may lose or report it.
        what = "interrupted" if number == signal.SIGINT else "terminated"
        with contextlib.suppress(OSError):
            os.write(2, f"{name}: {what}\n".encode())
        os._exit(128 + number)

    quiet_libraries()
    _make_reports_printable()
    signal.signal(signal.SIGTERM, end_at_once)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, end_at_once)
    try:
        _check_working_folder()
        main()
        _flush()
        # While Python ends, its own handlers are not called any more.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except Ending as error:
        message, *more = error.lines
        end(message, error.exit_code, error.shared, more)
    except KeyboardInterrupt:
        end("interrupted", 130)
    except BrokenPipeError:
        os._exit(0)  # the reader of our output, such as `| head`, has gone
    except OSError as error:
        end(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (RuntimeError, AssertionError) as error:
        if not _is_about_platforms(error):
            raise
        reason = (str(error).strip() or "jax cannot use it on this machine").splitlines()[0]
        end(f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: {reason}", InputError.exit_code)


def _is_about_platforms(error: Exception) -> bool:
    """Whether jax could not start what `JAX_PLATFORMS` names."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return "JAX_PLATFORMS" in os.environ and frame.f_code.co_filename.endswith("xla_bridge.py")


def clean_up_at_signals() -> None:
    """From now on, SIGTERM and Ctrl-C raise exceptions in this command.

    For work that leaves something to remove, or for which other processes wait.
    """
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _terminated(number: int, frame: object) -> None:
    raise Interrupted(number, "terminated")


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise InputError("the working folder has been removed; change to another one") from error


def _flush() -> None:
    """Writes what is left; Python itself would end with a traceback or with code 120."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        sys.stderr = None


def disconnect() -> None:
    """Disconnects from the other processes of the run, if there are any."""
    if distributed := sys.modules.get("ssljax.devices.distributed"):
        distributed.leave()


def quiet_libraries() -> None:
    """Keeps messages that libraries write for developers out of the terminal.

    Their errors still reach the command as exceptions, and it ends with one line.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", module="PIL")  # about odd images, which are decoded anyway
    for library in ("absl", "asyncio", "gcsfs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)

    def unraisable(event: sys.UnraisableHookArgs) -> None:
        # Orbax's and tensorstore's, after an error.
        if not re.search("Event loop is closed|reading array index", str(event.exc_value)):
            say(event.err_msg or "an exception was ignored")
            _report(event.exc_type, event.exc_value, event.exc_traceback)

    sys.unraisablehook = unraisable


def _report(kind: Any, error: BaseException | None, trace: Any) -> None:
    """Prints a traceback."""
    say(*"".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n"))


def _make_reports_printable() -> None:
    """Python's own reports on standard error quote names, too: tracebacks, warnings and logs."""

    def in_thread(event: threading.ExceptHookArgs) -> None:
        if event.exc_type is not SystemExit:
            _report(event.exc_type, event.exc_value, event.exc_traceback)

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable_lines(super().format(record))

    formatted = warnings.formatwarning
    sys.excepthook, threading.excepthook = _report, in_thread
    warnings.formatwarning = lambda *about, **more: printable_lines(formatted(*about, **more))
    if logging.lastResort is not None:  # of loggers without a handler
        logging.lastResort.setFormatter(Formatter())
