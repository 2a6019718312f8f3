"""The command that compiles a training step and bounds its speed; see `--help`."""

from __future__ import annotations

import json
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.runs.config_flags import ConfigCommand
from ssljax.settings.command_line import no_arguments
from ssljax.settings.messages import show


def compile_for(config: ConfigDict, topology: str = "", num_classes: int = 0) -> dict[str, Any]:
    """Compiles the training step of a config and returns its cost.

    Args:
      config: the config of a training run.
      topology: a TPU slice such as `v5e:2x4`. Call `ssljax.roofline.slices.prepare_environment`
        first. Empty compiles for this machine's devices.
      num_classes: the number of classes, for a data set that is not prepared on this machine.

    Returns:
      The output of `--json`, in bytes, seconds and images/s. `memory` and `step` are per device. If
      the limits of the chip are known, `memory` contains the chip's memory, and `bounds` contains
      the bounds of `ssljax.roofline.bounds`.

    Raises:
      InputError: the topology is unknown, libtpu is not installed, the batch size is not divisible
        by the number of devices, or the config is invalid.
    """
    from ssljax.roofline import slices

    tpu_slice = slices.parse(topology) if topology else None
    if tpu_slice:
        slices.check_libtpu()
    from ssljax.roofline.bounds import bounds
    from ssljax.roofline.chips import chip_of
    from ssljax.roofline.step import compile_step

    compiled = compile_step(config, slices.devices(tpu_slice) if tpu_slice else None, num_classes)
    cost, memory = compiled.cost, compiled.memory
    kind, count = compiled.devices[0].device_kind, len(compiled.devices)
    result: dict[str, Any] = {
        "topology": topology,
        "device": kind,
        "devices": count,
        "dtype": compiled.run.config.model.dtype,
        "batch_size": cost.images * count,
        "seconds_to_compile": compiled.seconds,
        "memory": {
            "arguments": memory.arguments,
            "temporaries": memory.temporaries,
            "output": memory.output,
            "program": memory.program,
            "total": memory.total,
        },
        "step": {
            "images": cost.images,
            "flops": cost.flops,
            "bytes_accessed": compiled.bytes_accessed,
            "memory_bytes": cost.memory_bytes,
            "collective_bytes": dict(cost.collective_bytes),
            "unknown_trip_counts": compiled.unknown_trip_counts,
        },
    }
    chip = tpu_slice.chip if tpu_slice else chip_of(kind)
    if chip and (tpu_slice or count == 1):
        least = bounds(cost, chip, tpu_slice)
        result["memory"]["chip"] = chip.memory
        result["bounds"] = {
            "arithmetic": least.arithmetic,
            "memory": least.memory,
            "interconnect": least.interconnect,
            "binds": least.binds,
            "images_per_second": cost.images / least.overlapped,
            "images_per_second_in_turn": cost.images / least.in_turn,
            "vcpus": chip.vcpus,
        }
    return result


def describe(result: dict[str, Any]) -> list[str]:
    """Formats the result of `compile_for` as lines of text."""
    memory, step, images = result["memory"], result["step"], result["step"]["images"]
    of_chip = f" of {_unit(memory['chip'])}B" if "chip" in memory else ""
    parts = (
        f"arguments {_unit(memory['arguments'])}B, temporaries {_unit(memory['temporaries'])}B, "
        f"output {_unit(memory['output'])}B, program {_unit(memory['program'])}B"
    )
    accessed, moved = step["bytes_accessed"], step["memory_bytes"]
    sizes = [f"{kind} {_unit(size)}B" for kind, size in step["collective_bytes"].items()]
    collectives = f"{', '.join(sizes)} per step" if sizes else "none"
    lines = [
        f"devices       {result['devices']} × {result['device']}"
        + (f" ({result['topology']})" if result["topology"] else ""),
        f"batch         {result['batch_size']:,} = {result['devices']} × {images:,}, "
        f"{result['dtype']}; compiled in {result['seconds_to_compile']:.0f} s",
        "per device:",
        f"memory        {_unit(memory['total'])}B{of_chip}: {parts}",
        f"arithmetic    {_unit(step['flops'])}FLOP per step, "
        f"{_unit(step['flops'] / images)}FLOP per image",
        f"accessed      {_unit(accessed)}B per step, {_unit(accessed / images)}B per image",
        f"traffic       {_unit(moved)}B per step, {_unit(moved / images)}B per image, to and from "
        "memory",
        f"collectives   {collectives}",
    ]
    if unknown := step["unknown_trip_counts"]:
        lines.append(
            f"warning       loops with an unknown trip count: {unknown}; their bodies count once"
        )
    if "bounds" in result:
        bounds, count = result["bounds"], result["devices"]
        most, in_turn = bounds["images_per_second"], bounds["images_per_second_in_turn"]
        times = ", ".join(
            f"{part} {bounds[part] * 1e3:.3g} ms"
            for part in ("arithmetic", "memory", "interconnect")
        )
        lines += [
            f"step time     at least {times}; bound by {bounds['binds']}",
            f"throughput    at most {most:,.0f} images/s per chip, {most * count:,.0f} in total; "
            f"without overlap {in_turn:,.0f} and {in_turn * count:,.0f}",
        ]
        if bounds["vcpus"]:
            cores = bounds["vcpus"] / 2
            lines.append(
                f"input         {most / cores:,.0f} images/s per core are needed for that; the "
                f"hosts have {cores:g} cores per chip"
            )
    return lines


def _unit(value: float) -> str:
    """Formats a number with three digits and an SI prefix, such as `3.83 G`."""
    for prefix in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:,.3g} T"


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Compiles the step and prints its cost."""
    no_arguments(positional)
    if arguments.topology:
        from ssljax.roofline.slices import prepare_environment

        prepare_environment()
    else:
        from ssljax.devices import cpu
        from ssljax.runs.config import check_train_config, complete, cpu_devices

        config = complete(arguments.config)
        check_train_config(config)
        cpu.split(cpu_devices(config))
    result = compile_for(arguments.config, arguments.topology, arguments.num_classes)
    if arguments.json:
        show(*json.dumps(result, indent=1).split("\n"))
    else:
        show(*describe(result))


def cli() -> None:
    """The console script `ssljax-compile`."""
    command = ConfigCommand(
        "ssljax-compile",
        "Compiles the training step and prints the memory, arithmetic and traffic it needs, and\n"
        "an upper bound on its speed. With --topology, the step is compiled for a TPU slice. This\n"
        "needs libtpu but no TPU, and takes a few minutes. The numbers come from the compiler and\n"
        "from the data sheet of the chip. The step is not run.",
        "python -m ssljax.compile --config=configs/jigsaw.py:3x3 [--topology=v5e:2x4]\n"
        "       [--config.batch_size=512]",
    )
    command.config()
    command.text(
        "topology",
        "a TPU slice, such as v5e:2x4 or v5p:2x2x1; the default is this machine's devices",
    )
    command.number("num_classes", "the number of classes, if the data set is not prepared here")
    command.switch("json", "print the result as JSON, in bytes, seconds and images/s")
    command.run(main)


if __name__ == "__main__":
    cli()
