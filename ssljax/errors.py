"""What can end a command, apart from a bug."""

from __future__ import annotations


class InputError(Exception):
    """The user's input cannot be used; the message names what is wrong and what would be right.

    Commands print it as one line, without a traceback, and exit with code 2.
    """


class TrainingFailed(Exception):
    """Training cannot go on (a loss that is not finite, a full disk); exit code 1."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM ended a run after its checkpoint was saved; exit code 128 + signal."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal_number


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known))
