"""What is said to people: results on standard output, messages on standard error.

Everything that commands print goes through here. Names in it are strangers' text, so each line is
made printable; see `ssljax.settings.printable`.
"""

from __future__ import annotations

import contextlib
import sys

from ssljax.settings.printable import printable

_CLEAR = "\r\033[K"  # back to the beginning of the line on a terminal, which becomes empty


def show(*lines: str) -> None:
    """Prints a result, a line for each argument; line breaks within one are shown as escapes.

    Raises:
      OSError: it cannot be written; `filename` is then `standard output`.
    """
    try:
        print("\n".join(map(printable, lines)), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(*lines: str) -> None:
    """Prints a message, like `show`; if nobody can read it any more, work goes on without it."""
    _write("\n".join(map(printable, lines)) + "\n")


def redraw(line: str) -> None:
    """Replaces the last line of the terminal on standard error; see `say`."""
    _write(_CLEAR + printable(line))


def _write(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # a closed terminal or pipe, a full disk
            print(text, end="", file=sys.stderr, flush=True)
