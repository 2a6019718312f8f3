"""Ctrl-C and SIGTERM: end after the running step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import types


class Interruption:
    """While entered, the first SIGINT or SIGTERM is noted instead of ending the process.

    Another Ctrl-C ends it at once, for those who cannot wait. Another SIGTERM does not: Slurm sends
    two to a job that it preempts.

    Attributes:
      signal_number: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Outside of the main thread the caller's own handling stays.
            with contextlib.suppress(ValueError):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
