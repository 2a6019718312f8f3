"""Values for settings and other JSON: odd ones, and those at the bounds of settings."""

from __future__ import annotations

import functools
import math
import random
from typing import Any

from ssljax.methods import METHODS
from ssljax.models import MODELS
from ssljax.settings.options import options
from ssljax.settings.run_settings import run_fields

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**53 + 1, 2**63, 10**30, 0.5, 1e300, float("inf"), float("nan"), "",
    "1", "²", "../..", "/etc/passwd", "/dev/zero", "\x1b[2J", "<b>", "x" * 10**5, [], [1], [[]], {},
    {"": None},
)  # fmt: skip


@functools.cache
def at_bounds() -> dict[str, tuple[Any, ...]]:
    """For the last part of a setting's name: values around its bounds, and its choices."""
    fields = {**run_fields(), **options(*METHODS.values(), *MODELS.values())}
    values = {}
    for name, field in fields.items():
        known = [field.metadata[key] for key in ("above", "at_least", "below", "at_most")]
        numbers = [limit for limit in known if limit is not None]
        step = 1 if isinstance(field.default, int) else 1e-6
        near = [limit + shift for limit in numbers for shift in (-step, 0, step)]
        far = [number * 1000 for number in numbers if math.isfinite(number) and number > 1]
        choices = field.metadata["choices"]
        values[name.rpartition(".")[2]] = (*near, *far, *choices, field.default)
    return values


def draw(name: Any, rng: random.Random) -> Any:
    """A value in place of that of a key; half of the time one at its bounds, if they are known."""
    if (known := at_bounds().get(name)) and rng.random() < 0.5:
        return rng.choice(known)
    return rng.choice(ODD)
