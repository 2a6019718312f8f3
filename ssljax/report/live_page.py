"""Keeps the page of a run up to date while it is trained: `report.html` in the run folder.

The page is for people. Nothing that goes wrong with it changes or ends the training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ssljax.devices import processes
from ssljax.files import storage
from ssljax.runs.folder import read_config, read_starts
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.run import Run, open_run
from ssljax.settings.errors import Diverged, Interrupted

if TYPE_CHECKING:
    from ssljax.report.run_page import Content

PAGE = "report.html"
_MANY = 10_000  # images that are not read for their labels
_SOONEST, _LATEST = 10, 300  # seconds until a browser loads the page again
_PAUSE = 5  # seconds; drawing the page more often would slow down runs with short epochs

T = TypeVar("T")


class LivePage:
    """Writes the page of one run; in the first process only."""

    def __init__(self) -> None:
        self._began = self._written = time.monotonic()
        self._run: Run | None = None
        self._chance: dict[str, float] | None = None
        self._inputs: str | None = None  # the same for the whole run
        self._filters: tuple[str, tuple[int, ...], str] | None = None
        self._said: set[str] = set()

    def validated(self, run: Run, folder: pathlib.Path, weights: Mapping[str, Any]) -> None:
        """Writes the page after a validation, unless it was just written.

        See `ssljax.training.loop.train`.
        """
        if not processes.is_first():
            return
        first, self._run = self._run is None, run
        with self._going_on(f"{folder / PAGE} is not written"):
            from ssljax.report import document, network_inputs, run_page

            soon = time.monotonic() - self._written < _PAUSE
            if soon and not run_page.is_finished(run, read_metrics(folder)):
                return
            if self._inputs is None:
                split = run.config.data.validation_split
                self._inputs = self._part(
                    "inputs", lambda: document.sheet(network_inputs.sheet(run, split)), ""
                )
            self._filters = self._part("filters", lambda: _filters(weights), None)
            content = self._content(run, folder)
            if not run_page.is_finished(run, content.rows):
                content = _with_reload(content, time.monotonic() - self._written)
            else:
                features = self._part("features", lambda: _features(run, weights), "")
                content = dataclasses.replace(content, features=features)
            self._written = time.monotonic()
            storage.write_text(folder / PAGE, run_page.render(content))
            if first:
                processes.say(f"{folder.name}  its page, written after each validation: "
                              f"{folder / PAGE}")  # fmt: skip

    def ended(self, workdir: str | pathlib.Path, error: Exception) -> None:
        """Says on the page why the training has ended before its last step."""
        # Other errors may come before the run has its folder for itself.
        began = self._run is not None or isinstance(error, Diverged | Interrupted)
        if not began or not processes.is_first():
            return
        with self._going_on("the page of the run is not written"):
            from ssljax.report import run_page

            folder = storage.path(workdir, "--workdir")
            if self._run is None:
                self._run = open_run(read_config(folder))
            content = self._content(self._run, folder, str(error) or type(error).__name__)
            if isinstance(error, Interrupted):  # the same command continues, and so does the page
                content = _with_reload(content, _LATEST)
            storage.write_text(folder / PAGE, run_page.render(content))

    def _content(self, run: Run, folder: pathlib.Path, ended: str = "") -> Content:
        from ssljax.report import run_charts
        from ssljax.report.run_page import Content

        rows = read_metrics(folder)
        if self._chance is None:
            nothing: dict[str, float] = {}
            self._chance = self._part("chance", lambda: _chance(run), nothing)
        chance = self._chance
        return Content(
            run,
            rows,
            self._part("environment", lambda: read_starts(folder), ()),
            chance,
            self._part("charts", lambda: list(run_charts.draw(rows, chance).values()), ()),
            self._inputs or "",
            self._filters,
            time.monotonic() - self._began,
            ended,
        )

    def _part(self, name: str, make: Callable[[], T], without: T) -> T:
        """A part of the page, or what stands for it if it cannot be made."""
        with self._going_on(f"the run's page has no {name}"):
            return make()
        return without

    @contextlib.contextmanager
    def _going_on(self, consequence: str) -> Iterator[None]:
        """Says, once, what goes wrong inside the block."""
        try:
            yield
        except Exception as error:  # whatever it is, the training matters more
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            said = f"{consequence}: {reason.splitlines()[0]}"
            if said not in self._said:
                self._said.add(said)
                processes.say(said)


def _with_reload(content: Content, interval: float) -> Content:
    """The content of a page that is written again after about `interval` seconds."""
    seconds = min(max(round(interval / 4), _SOONEST), _LATEST)
    return dataclasses.replace(content, reload_after=seconds)


def _chance(run: Run) -> dict[str, float]:
    records = run.records(run.config.data.validation_split)
    if not run.method.needs_labels:
        return run.method.chance(np.zeros(len(records), int))
    if len(records) > _MANY and not records.has_labels():
        return {}
    return run.method.chance(records.labels())


def _features(run: Run, weights: Mapping[str, Any]) -> str:
    from ssljax.report import what_features_see

    return "".join(what_features_see.of_run(run, weights))


def _filters(weights: Mapping[str, Any]) -> tuple[str, tuple[int, ...], str] | None:
    from ssljax.report import filters

    found = filters.first_kernel(weights["params"]["backbone"])
    if found is None:
        return None
    path, kernel = found
    return f"backbone/{path}", kernel.shape, filters.data_uri(kernel)
