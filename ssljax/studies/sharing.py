"""The runs of a study, each trained by one of the processes that share them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ssljax.files import storage, untrusted
from ssljax.runs.config import changes, resolve
from ssljax.runs.folder import recorded_config
from ssljax.runs.lock import Busy, lock
from ssljax.settings.errors import Diverged, InputError
from ssljax.settings.messages import say
from ssljax.studies.outcomes import Failure, Outcome
from ssljax.studies.plan import PlannedRun

_WAIT = 2  # seconds between two looks at a run that another process trains
_FILE = "failed.json"


class _Recorded(msgspec.Struct):
    """What failed.json holds."""

    error: str


def finish(
    runs: Mapping[Any, PlannedRun], run: Callable[[PlannedRun], Outcome]
) -> dict[Any, Outcome | Failure]:
    """Finishes every run, and waits for those that another process trains.

    A run that diverges would do so again, so that is recorded in its folder, and the others go on.

    Args:
      runs: by any key; those that others need are named by it.
      run: trains and evaluates a run, as far as that is not done yet.

    Returns:
      How each run ended, in the order of `runs`.

    Raises:
      InputError: a run cannot be started.
    """
    ended: dict[Any, Outcome | Failure] = {}
    said = ""
    while len(ended) < len(runs):
        before, waiting = len(ended), []
        for key, planned in runs.items():
            if key in ended or (planned.needed in runs and planned.needed not in ended):
                continue
            if isinstance(needed := ended.get(planned.needed), Failure):
                ended[key] = without(needed, planned)
                continue
            claim = planned.folder.with_name(f".{planned.folder.name}.lock")
            with contextlib.ExitStack() as claims:
                try:
                    claims.enter_context(lock(claim, f"another process trains {planned.folder}"))
                except Busy as busy:
                    waiting.append(str(busy))
                    continue
                ended[key] = _finish(planned, run)
        if len(ended) == before:
            if said != (said := "; ".join(waiting)):
                say(f"waiting: {said}")
            time.sleep(_WAIT)
    return {key: ended[key] for key in runs}


def without(needed: Failure, planned: PlannedRun) -> Failure:
    """How a run ends that needs one that failed."""
    return Failure(planned.folder, f"{needed.folder.name} failed")


def _finish(planned: PlannedRun, run: Callable[[PlannedRun], Outcome]) -> Outcome | Failure:
    folder = planned.folder
    say(f"── {folder}")
    if error := recorded_failure(planned):
        again = f"remove {folder} to train it again"
    else:
        try:
            return run(planned)
        except Diverged as diverged:
            error, again = str(diverged), "the study goes on without it"
            storage.write_json(folder / _FILE, {"error": error})
    say(f"{folder} failed: {error}; {again}")
    return Failure(folder, error)


def recorded_failure(planned: PlannedRun) -> str:
    """Why the run failed before; empty if it did not.

    Raises:
      InputError: that was with other settings, or the file that says so is damaged.
    """
    path = planned.folder / _FILE
    try:
        error = untrusted.read_json(path, _Recorded, f"remove {planned.folder}").error
    except FileNotFoundError:
        return ""
    before = recorded_config(planned.folder)
    if before and (changed := changes(before, resolve(planned.config, before))):
        raise InputError(
            f"{planned.folder} holds a run that failed with other settings "
            f"({'; '.join(changed)}); remove the folder to train it with these"
        )
    return error
