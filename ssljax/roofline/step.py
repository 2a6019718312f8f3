"""Compiles the step that training would run, and reads what it costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax.config import check_train_config
from ssljax.errors import InputError
from ssljax.models import automatic_dtype
from ssljax.roofline import hlo
from ssljax.roofline.bounds import Cost
from ssljax.tasks import TASKS, Task
from ssljax.training.run import Run, make_run, open_class_names
from ssljax.training.run_step import make_run_step

_STEPS_PER_EPOCH = 1000  # a number in the program, which costs the same with any


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a device needs for a step.

    Attributes:
      arguments: the training state and the batch.
      temporaries: activations, gradients, and what else is made and dropped within the step.
      output: what is not written in the place of an argument.
      program: the instructions.
    """

    arguments: int
    temporaries: int
    output: int
    program: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A step as XLA made it.

    Attributes:
      run: whose step it is.
      devices: that it is made for.
      seconds: that compiling took.
      memory: of each device.
      bytes_accessed: XLA's count for each device, in which a TPU's fast memory is counted, too.
      cost: for each device.
      program: of each device.
    """

    run: Run
    devices: list[jax.Device]
    seconds: float
    memory: Memory
    bytes_accessed: float
    cost: Cost
    program: hlo.Program


def compile_step(
    config: ConfigDict, devices: Sequence[jax.Device] | None = None, num_classes: int = 0
) -> CompiledStep:
    """Compiles a config's training step; see `lower_step`.

    Raises:
      InputError: something is wrong with the config, or the step does not fit into the memory.
    """
    run, devices, lowered = lower_step(config, devices, num_classes)
    images = run.config.batch_size // len(devices)
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"batch_size: {images} examples for each of {len(devices)} devices do not fit: "
            + str(error).splitlines()[0]
        ) from error
    seconds = time.perf_counter() - start

    analysis, sizes = compiled.cost_analysis(), compiled.memory_analysis()
    # XLA's counts take the body of a loop once; Adam, outside of it, is next to nothing.
    repeats = run.config.gradient_accumulation_steps
    program = hlo.parse(compiled.as_text(), trips=repeats)
    flops, bytes_accessed = (repeats * analysis[name] for name in ("flops", "bytes accessed"))
    on_tpu = devices[0].platform == "tpu"
    return CompiledStep(
        run=run,
        devices=devices,
        seconds=seconds,
        memory=Memory(
            arguments=sizes.argument_size_in_bytes,
            temporaries=sizes.temp_size_in_bytes,
            output=sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
            program=sizes.generated_code_size_in_bytes,
        ),
        bytes_accessed=bytes_accessed,
        cost=Cost(
            images=images,
            flops=flops,
            memory_bytes=program.memory_bytes() if on_tpu else bytes_accessed,
            all_reduce_bytes=program.all_reduce_bytes(),
        ),
        program=program,
    )


def lower_step(
    config: ConfigDict, devices: Sequence[jax.Device] | None = None, num_classes: int = 0
) -> tuple[Run, list[jax.Device], Any]:
    """The step that training would run, traced for shapes alone.

    Args:
      config: of a training run.
      devices: need not be there; None takes this machine's.
      num_classes: of a data set that is not prepared here; 0 opens the config's where the task
        needs labels.

    Returns:
      The run, the devices in their order, and jax's `Lowered` step.

    Raises:
      InputError: something is wrong with the config.
    """
    check_train_config(config)
    config = config.copy_and_resolve_references()
    if config.parallelism == "pmap":
        raise InputError("parallelism: pmap is not compiled ahead of time; use jit")
    if config.model.get("dtype") == "auto" and devices is not None:
        config.model.dtype = automatic_dtype(devices[0].platform)
    task = TASKS.get(config.task.name)
    if num_classes:
        names = tuple(str(number) for number in range(num_classes))
    else:
        names = open_class_names(config) if task is not None and task.needs_labels else ()
    run = make_run(config, names)
    step = make_run_step(run, _STEPS_PER_EPOCH, devices)
    state = _abstract(jax.eval_shape(step.initial_state), step.parallelism.replicated())
    batch = _abstract(batch_shapes(run.task, config.batch_size), step.parallelism.split())
    return run, step.parallelism.devices, step.train_step.lower(state, batch)


def batch_shapes(task: Task, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global batch as the input pipeline delivers it."""
    size = task.image_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((size, size, 3), np.uint8),
        "label": ((), np.int32),
        "record": ((), np.int32),
        "mask": ((), np.bool_),
    }
    for name, value in task.draw(0, np.random.default_rng(0), train=True).items():
        shapes[name] = (value.shape, value.dtype)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
        for name, (shape, dtype) in shapes.items()
    }


def _abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
