"""What training says: what it begins with, and the progress line.

The progress line has epoch, loss, images/s, share of time waiting for input, time left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import jax

from ssljax.data.records import Records
from ssljax.devices.processes import is_first
from ssljax.methods.method import Method
from ssljax.runs.run import Run
from ssljax.settings.messages import redraw, say


def opening(name: str, run: Run, train: Records, validation: Records) -> list[str]:
    """Lines that say what is trained, on which images and devices; nothing is compiled for it."""
    config, devices = run.config, jax.devices()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.variable_shapes()[0]))
    classes = f", {len(run.class_names)} classes" if run.class_names else ""
    return [
        *run.method.remarks(train.channels),
        f"{name}  {config.method.name} on {config.data.dataset}: {len(train):,} images to train "
        f"on, {len(validation):,} to validate on{classes}",
        f"{name}  {config.model.name} with {parameters:,} parameters on {len(devices)} × "
        f"{devices[0].device_kind}; compiling",
    ]


def say_concerns(name: str, method: Method, metrics: Mapping[str, float], progress: float) -> None:
    """Says what the metrics of a validation show to go wrong.

    The first tenth of training is not judged: networks begin with embeddings that are all similar.
    """
    if progress >= 0.1 and is_first():
        for concern in method.concerns(metrics):
            say(f"{name}  {concern}")


class Progress:
    """Writes to standard error: one line that is redrawn on a terminal, or one every ten seconds.

    If there are several processes, only the first one writes.
    """

    def __init__(self, name: str, total_steps: int, epochs: int, batch_size: int):
        self._name, self._total, self._epochs = name, total_steps, epochs
        self._batch_size = batch_size
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._speaks = is_first()
        self._shown = 0.0

    def show(
        self, step: int, epoch: int, loss: float, images_per_second: float, waiting: float
    ) -> None:
        """Shows the progress of training.

        Args:
          step: steps done.
          epoch: the current epoch, from 1.
          loss: over the last interval.
          images_per_second: over the last interval; 0 if it was not measured.
          waiting: share of the interval spent waiting for input.
        """
        if not self._speaks:
            return
        now = time.monotonic()
        last = step >= self._total
        if not self._terminal and not last and now - self._shown < 10:
            return
        self._shown = now
        if not images_per_second:
            return
        left = (self._total - step) * self._batch_size / images_per_second
        self._line(
            f"{self._name}  epoch {epoch}/{self._epochs}  step {step}/{self._total}  "
            f"loss {loss:.4f}  {images_per_second:,.0f} images/s  input wait {waiting:.0%}  "
            f"{duration(left)} left"
        )

    def validated(self, epoch: int, metrics: dict[str, float], what: str = "validation") -> None:
        """Shows an epoch's validation metrics on a separate line, or what probes found."""
        if not self._speaks:
            return
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._line(f"{self._name}  epoch {epoch}/{self._epochs}  {what}  {values}")
        if self._terminal:
            say("")

    def close(self) -> None:
        """Ends the line on the terminal."""
        if self._terminal and self._shown:
            say("")

    def _line(self, text: str) -> None:
        if self._terminal:
            redraw(text)
        else:
            say(text)


def duration(seconds: float) -> str:
    """3725 as `1:02:05`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
