"""Ctrl-C, SIGTERM, a closed terminal: training ends after the current step, with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Interruption:
    """Within this context, SIGINT, SIGTERM and SIGHUP are recorded and do not end the process.

    Each is acknowledged with a line on standard error. The third Ctrl-C raises KeyboardInterrupt.
    SIGTERM never does, because Slurm sends two to a job that it preempts. SIGHUP stays ignored
    under `nohup`. The handlers that were there before are restored.

    Attributes:
      signal_number: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._ctrl_c = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in _NAMES:
            before = signal.getsignal(number)
            if before is None or (number == signal.SIGHUP and before == signal.SIG_IGN):
                continue
            # Outside the main thread, signals keep the handlers that they have.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._ctrl_c += number == signal.SIGINT
        if self._ctrl_c > 2:
            raise KeyboardInterrupt
        if self.signal_number is None:
            self.signal_number = number
            _say(f"{_NAMES[number]}: training ends after this step, with a checkpoint")  # type: ignore[index]
        elif number != signal.SIGINT:
            _say(f"{_NAMES[number]} again: the checkpoint is still to be saved")  # type: ignore[index]
        else:
            left = "the next Ctrl-C ends" if self._ctrl_c == 2 else "two more Ctrl-C end"
            _say(f"Ctrl-C again: the checkpoint is still to be saved; {left} without it")


def _say(text: str) -> None:
    """Writes past Python's buffers, which the interrupted code may be using."""
    start = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # the progress line
    with contextlib.suppress(OSError):
        os.write(2, f"{start}{text}\n".encode())
