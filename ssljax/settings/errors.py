"""The exceptions that end a command with one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class Ending(Exception):
    """Ends a command with one line.

    Attributes:
      lines: the message. Further ones list what it is about; a line break in a name begins none.
      exit_code: of the command.
      shared: True if all processes of a run end with it, so that they can disconnect cleanly.
    """

    exit_code = 1
    shared = False

    def __init__(self, *lines: str):
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(self.lines)


class InputError(Ending):
    """The user's input cannot be used. The message says what is wrong and what would be right.

    Commands print it as one line, without a traceback, and exit with code 2.
    """

    exit_code = 2


class TrainingFailed(Ending):
    """Training cannot continue, for example because the loss is NaN or the disk is full.

    Commands exit with code 1.
    """


class Diverged(TrainingFailed):
    """A loss, a norm or a parameter is not finite; the same run would end there again."""


class ProcessLost(TrainingFailed):
    """Another process of the run has ended or cannot be reached."""


class Interrupted(Ending):
    """Ctrl-C or SIGTERM ended a run after a checkpoint was saved; exit code 128 + signal."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # the shell's convention


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters; without text, its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the most similar known name, or all known names."""
    import difflib

    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known))
