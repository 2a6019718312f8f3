"""Ctrl-C and SIGTERM: training ends after the current step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import types


class Interruption:
    """Within this context, the first SIGINT or SIGTERM is recorded and does not end the process.

    A second Ctrl-C ends it immediately. A second SIGTERM does not, because Slurm sends two to a job
    that it preempts.

    Attributes:
      signal_number: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Outside the main thread, signals keep the handlers that they have.
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
