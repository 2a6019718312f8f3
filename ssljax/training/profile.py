"""A profile of chosen steps: `--config.profile_steps=10,12`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Sequence

import jax

from ssljax.devices.processes import say


class Profile(contextlib.AbstractContextManager["Profile"]):
    """Records steps with jax's profiler, for TensorBoard or Perfetto.

    The trace is in `RUN/profile/plugins/profile/TIME/`.
    """

    def __init__(self, workdir: pathlib.Path, steps: Sequence[int]):
        """Steps are the first and the last one, from 1; empty records nothing."""
        self._folder = workdir / "profile"
        self._first, self._last = tuple(steps) or (0, 0)
        self._running = False

    def before(self, step: int) -> None:
        """Call before a step is dispatched."""
        if self._first and step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, result: object) -> None:
        """Call after a step was dispatched, with what it returns."""
        if self._running and step >= self._last:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
        say(f"the profile of steps {self._first} to {self._last} is in {self._folder}")

    def __exit__(self, *exception: object) -> None:
        if self._running:
            self._stop()
