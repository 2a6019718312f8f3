"""Compiles a training step, also for a TPU slice that is not there: see `--help`."""

from __future__ import annotations

import json
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.command_line import Command
from ssljax.errors import InputError


def compile_for(config: ConfigDict, topology: str = "", num_classes: int = 0) -> dict[str, Any]:
    """Compiles a config's training step and says what it costs.

    Args:
      config: of a training run.
      topology: a TPU slice such as `v5e:2x4`, with the environment prepared for it, see
        `ssljax.roofline.slices`; empty is this machine's devices.
      num_classes: of a data set that is not prepared here.

    Returns:
      What the command prints, in bytes, seconds and images/s: `memory` and `step` of each device,
      and of a chip that is known its memory and the `bounds`, as in `roofline.bounds`.

    Raises:
      InputError: an unknown topology, no compiler for it, a batch that does not divide, or whatever
        else is wrong with the config.
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
        "dtype": compiled.run.model.dtype.__name__,
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
            "all_reduce_bytes": cost.all_reduce_bytes,
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


def describe(result: dict[str, Any]) -> str:
    """What came out, as a few lines."""
    memory, step, images = result["memory"], result["step"], result["step"]["images"]
    of_chip = f" of {_unit(memory['chip'])}B" if "chip" in memory else ""
    parts = (
        f"arguments {_unit(memory['arguments'])}B, temporaries {_unit(memory['temporaries'])}B, "
        f"output {_unit(memory['output'])}B, program {_unit(memory['program'])}B"
    )
    accessed, moved = step["bytes_accessed"], step["memory_bytes"]
    lines = [
        f"devices       {result['devices']} × {result['device']}"
        + (f" ({result['topology']})" if result["topology"] else ""),
        f"batch         {result['batch_size']:,} = {result['devices']} × {images:,}, "
        f"{result['dtype']}; compiled in {result['seconds_to_compile']:.0f} s",
        "each device:",
        f"memory        {_unit(memory['total'])}B{of_chip}: {parts}",
        f"arithmetic    {_unit(step['flops'])}FLOP a step, "
        f"{_unit(step['flops'] / images)}FLOP an image",
        f"accessed      {_unit(accessed)}B a step, {_unit(accessed / images)}B an image; to and "
        f"from its memory {_unit(moved)}B, {_unit(moved / images)}B",
        f"all-reduce    {_unit(step['all_reduce_bytes'])}B a step",
    ]
    if "bounds" in result:
        bounds, count = result["bounds"], result["devices"]
        most, in_turn = bounds["images_per_second"], bounds["images_per_second_in_turn"]
        times = ", ".join(
            f"{part} {bounds[part] * 1e3:.3g} ms"
            for part in ("arithmetic", "memory", "interconnect")
        )
        lines += [
            f"a step takes  {times} at least; {bounds['binds']} binds",
            f"at most       {most:,.0f} images/s a chip, {most * count:,.0f} in all; "
            f"where none overlap, {in_turn:,.0f} and {in_turn * count:,.0f}",
        ]
        if bounds["vcpus"]:
            cores = bounds["vcpus"] / 2
            lines.append(
                f"input         {most / cores:,.0f} images/s a core keep up with that: the hosts "
                f"have {cores:g} cores for each chip"
            )
    return "\n".join(lines)


def _unit(value: float) -> str:
    """Three digits, and the prefix of the unit that follows."""
    for prefix in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:,.3g} T"


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Compiles and prints."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    if arguments.topology:
        from ssljax.roofline.slices import prepare_environment

        prepare_environment()
    else:
        from ssljax.config import check_train_config
        from ssljax.training.parallelism import split_cpu

        config = arguments.config
        check_train_config(config)
        split_cpu(config.batch_size // config.gradient_accumulation_steps)
    result = compile_for(arguments.config, arguments.topology, arguments.num_classes)
    print(json.dumps(result, indent=1) if arguments.json else describe(result))


def cli() -> None:
    """The console script `ssljax-compile`."""
    command = Command(
        "ssljax-compile",
        "Compiles the step that training would run, and says what it needs and how fast it can\n"
        "be at most: memory, arithmetic, traffic, and which of them binds. With --topology it is\n"
        "compiled for a TPU slice that need not be there; that takes libtpu and about a minute.\n"
        "The figures are the compiler's and the chip's data sheet's; nothing is run.",
        "python -m ssljax.compile --config=configs/jigsaw.py:3x3 [--topology=v5e:2x4]\n"
        "       [--config.batch_size=512]",
    )
    command.config()
    command.text(
        "topology", "a TPU slice, such as v5e:2x4 or v5p:2x2x1; else this machine's devices"
    )
    command.number("num_classes", "of a classification whose data set is not prepared here")
    command.switch("json", "print everything as JSON, in bytes, seconds and images/s")
    command.run(main)


if __name__ == "__main__":
    cli()
