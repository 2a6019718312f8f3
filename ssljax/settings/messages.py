"""What is said to people: results on standard output, messages on standard error."""

from __future__ import annotations

import contextlib
import sys


def show(text: str) -> None:
    """Prints a result.

    Raises:
      OSError: it cannot be written; `filename` is then `standard output`.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(text: str, end: str = "\n") -> None:
    """Prints a message; if nobody can read it any more, work goes on without it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # a closed terminal or pipe, a full disk
            print(text, end=end, file=sys.stderr, flush=True)
