"""The images that a run trains on, and whether they fill its batches."""

from __future__ import annotations

import jax

from ssljax.data.records import Records
from ssljax.data.subset import label_fraction
from ssljax.devices import processes
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError


def training_records(run: Run) -> Records:
    """Opens what a run trains on: its share of its training split.

    Raises:
      InputError: see `Run.records`; or the batch is larger than the split, by more than it takes
        to divide it among devices and micro-batches.
    """
    config, data = run.config, run.config.data
    records = label_fraction(run.records(data.train_split), data.label_fraction, config.seed)
    divisor = jax.device_count() * config.gradient_accumulation_steps
    largest = -(-len(records) // divisor) * divisor
    if config.batch_size > largest:
        raise InputError(
            f"batch_size: {config.batch_size:,} is more than the {len(records):,} images of "
            f"{records.name}; it can be at most {largest:,} on {jax.device_count()} devices"
        )
    return records


def say_repeated(run: Run, records: Records) -> None:
    """Says how many images of a step are repeated, if the batch is larger than the split."""
    batch = run.config.batch_size
    if batch > len(records):
        counted = "count" if run.method.couples_examples else "do not count"
        processes.say(
            f"batch_size: {batch:,} is more than the {len(records):,} images of {records.name}; "
            f"{batch - len(records):,} images of each step are repeated and {counted}"
        )
