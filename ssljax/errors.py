"""What can end a command, apart from a bug."""

from __future__ import annotations


class Ending(Exception):
    """Ends a command with one line.

    Attributes:
      exit_code: of the command.
      shared: whether all processes of a run end with it, and so can take leave of each other.
    """

    exit_code = 1
    shared = False


class InputError(Ending):
    """The user's input cannot be used; the message names what is wrong and what would be right.

    Commands print it as one line, without a traceback, and exit with code 2.
    """

    exit_code = 2


class TrainingFailed(Ending):
    """Training cannot go on (a loss that is not finite, a full disk); exit code 1."""


class ProcessLost(TrainingFailed):
    """Another process of the run has ended, or cannot be reached any more."""


class Interrupted(Ending):
    """Ctrl-C or SIGTERM ended a run after its checkpoint was saved; exit code 128 + signal."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # the shell's convention


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known))
