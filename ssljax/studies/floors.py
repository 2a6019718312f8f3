"""Which pretext run the random weights of a network are probed with, if the first one failed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssljax.settings.errors import InputError
from ssljax.studies import probing, sharing
from ssljax.studies.outcomes import Failure, Outcome
from ssljax.studies.plan import PlannedRun


def moved(
    config: ConfigDict,
    planned: Mapping[str, PlannedRun],
    ended: Mapping[Any, Outcome | Failure | None],
) -> dict[str, PlannedRun]:
    """The runs with which random weights are to be probed instead of with runs that failed.

    Args:
      config: of the study.
      planned: all pretext runs of a seed, by name.
      ended: how those of this part of the study ended, by name.
    """
    failed = {
        name
        for name, run in planned.items()
        if isinstance(ended.get(name), Failure) or (name not in ended and _has_failed(run))
    }
    again = {}
    for name, run in planned.items():
        if name in ended and name not in failed:
            new = probing.plan(config, name, failed)
            if new != run.probing:
                again[name] = dataclasses.replace(run, probing=new)
    return again


def _has_failed(run: PlannedRun) -> bool:
    with contextlib.suppress(InputError):  # about a run of another part
        return bool(sharing.recorded_failure(run))
    return False
