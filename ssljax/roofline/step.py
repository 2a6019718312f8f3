"""Compiles the training step and measures its cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.models import automatic_dtype
from ssljax.roofline import hlo
from ssljax.roofline.arithmetic import flops
from ssljax.roofline.bounds import Cost
from ssljax.roofline.collectives import collective_bytes
from ssljax.roofline.loops import unknown_trip_counts
from ssljax.roofline.traffic import memory_bytes
from ssljax.runs.config import check_train_config, complete
from ssljax.runs.run import Run, make_run, open_class_names
from ssljax.settings.errors import InputError, first_line
from ssljax.training.run_step import make_run_step

_STEPS_PER_EPOCH = 1000  # a constant in the program that does not affect its cost


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory in bytes that a step needs on one device.

    Attributes:
      arguments: the training state and the batch.
      temporaries: activations, gradients and other arrays that are freed within the step.
      output: results that do not replace an argument.
      program: the instructions.
    """

    arguments: int
    temporaries: int
    output: int
    program: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A compiled training step.

    Attributes:
      run: the run that the step belongs to.
      devices: the devices that the step is compiled for.
      seconds: the compilation time.
      memory: the memory that each device needs.
      bytes_accessed: XLA's count for each device, scaled to the trip counts of the loops. On a TPU,
        it includes accesses to on-chip memory.
      unknown_trip_counts: the number of loops whose trip count is unknown. Their bodies are counted
        once in `bytes_accessed` and `cost`.
      cost: the cost for each device.
      program: the program that each device runs.
    """

    run: Run
    devices: list[jax.Device]
    seconds: float
    memory: Memory
    bytes_accessed: float
    unknown_trip_counts: int
    cost: Cost
    program: hlo.Program


def compile_step(
    config: ConfigDict, devices: Sequence[jax.Device] | None = None, num_classes: int = 0
) -> CompiledStep:
    """Compiles the training step of a config. The arguments are those of `lower_step`.

    Raises:
      InputError: the config is invalid, or the step does not fit into the memory.
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
            f"batch_size: {images} examples per device on {len(devices)} devices do not fit into "
            "the memory: " + first_line(error)
        ) from error
    seconds = time.perf_counter() - start

    analysis, sizes = compiled.cost_analysis(), compiled.memory_analysis()
    program = hlo.parse(compiled.as_text())
    # XLA counts the body of a loop once.
    moved = memory_bytes(program)
    repeats = moved / memory_bytes(program, repeat_loops=False)
    bytes_accessed = analysis["bytes accessed"] * repeats
    # Most FLOPs that are not in a dot or a convolution are elementwise, so they grow like memory
    # traffic. Scaling all FLOPs like the dots would also multiply those of the optimiser.
    other_flops = max(0.0, analysis["flops"] - flops(program, repeat_loops=False))
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
        unknown_trip_counts=unknown_trip_counts(program),
        cost=Cost(
            images=images,
            flops=flops(program) + other_flops * repeats,
            memory_bytes=moved if on_tpu else bytes_accessed,
            collective_bytes=collective_bytes(program),
        ),
        program=program,
    )


def lower_step(
    config: ConfigDict, devices: Sequence[jax.Device] | None = None, num_classes: int = 0
) -> tuple[Run, list[jax.Device], Any]:
    """Lowers the training step of a config, from the shapes of its arguments.

    Args:
      config: the config of a training run.
      devices: the devices to lower for, which need not be present. None uses those of this machine.
      num_classes: the number of classes, for a data set that is not prepared on this machine. If it
        is 0 and the method needs labels, the config's data set is opened.

    Returns:
      The run, the devices, and the lowered step.

    Raises:
      InputError: the config is invalid.
    """
    config = complete(config)
    check_train_config(config)
    if config.parallelism == "pmap":
        raise InputError("parallelism: pmap cannot be compiled ahead of time; use jit")
    if config.model.dtype == "auto":
        platform = (devices or jax.devices())[0].platform
        config.model.dtype = automatic_dtype(platform)
    if num_classes:
        names = tuple(str(number) for number in range(num_classes))
    else:
        needs_labels = method_class(config.method.name).needs_labels
        names = open_class_names(config) if needs_labels else ()
    run = make_run(config, names)
    step = make_run_step(run, _STEPS_PER_EPOCH, devices)
    state = _abstract(jax.eval_shape(step.initial_state), step.parallelism.replicated())
    batch = _abstract(batch_shapes(run), step.parallelism.split())
    return run, step.parallelism.devices, step.train_step.lower(state, batch)


def batch_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and dtypes of a global batch from the input pipeline, by name."""
    layout = run.layout(run.config.batch_size)
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in layout.items()}


def _abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
