"""The tasks by name. A new one is a file beside this one and a line in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssljax.config import same_kind
from ssljax.errors import InputError, nearest
from ssljax.tasks.classification import Classification
from ssljax.tasks.jigsaw import Jigsaw
from ssljax.tasks.task import Task, options

__all__ = ["TASKS", "Task", "make_task", "options"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "jigsaw": Jigsaw,
}


def make_task(config: Mapping[str, Any], **common: Any) -> Task:
    """Makes the task that `config.task` describes: its `name`, and options of its own.

    Args:
      config: `config.task`.
      **common: the fields that all tasks share, see `Task`.

    Raises:
      InputError: an unknown name or option, or a value that makes no sense.
    """
    given = dict(config)
    name = given.pop("name", "")
    if name not in TASKS:
        raise InputError(f"task.name: unknown task {name!r}; {nearest(name, list(TASKS))}")
    known = options(TASKS[name])
    for key, value in given.items():
        if key not in known:
            raise InputError(f"task.{key}: {name} has no such option; {nearest(key, list(known))}")
        if not same_kind(value, known[key]):
            raise InputError(f"task.{key}: expected {type(known[key]).__name__}, got {value!r}")
    return TASKS[name](**given, **common)
