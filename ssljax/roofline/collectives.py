"""The bytes that a compiled program moves between devices."""

from __future__ import annotations

from collections.abc import Mapping

from ssljax.roofline.hlo import Computation, Instruction, Program, size
from ssljax.roofline.loops import total

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def collective_bytes(program: Program) -> dict[str, int]:
    """The size of the arrays on which each kind of collective works, on one device.

    Args:
      program: the compiled program.

    Returns:
      Bytes per execution of the program by kind, only for the kinds that occur. They are the bytes
      of the results of all-gathers and all-reduces, and of the operands of the other kinds.
    """

    def bytes_of(kind: str) -> int:
        def value(computation: Computation, instruction: Instruction) -> int:
            return _size(computation, instruction) if _kind(computation, instruction) == kind else 0

        return total(program, value, inside_fusions=True)

    counted = {kind: bytes_of(kind) for kind in KINDS}
    return {kind: count for kind, count in counted.items() if count}


def sent_bytes(by_kind: Mapping[str, float], devices: int) -> float:
    """The minimum number of bytes that each device sends.

    With n devices, a device sends 2(n-1)/n of the bytes of an all-reduce, which is a reduce-scatter
    followed by an all-gather; (n-1)/n of the bytes of an all-gather, a reduce-scatter or an
    all-to-all; and all bytes of a collective-permute.

    Args:
      by_kind: see `collective_bytes`.
      devices: the number of devices; every collective is assumed to span all of them.
    """
    if devices == 1:
        return 0.0
    others = (devices - 1) / devices
    share = {"all-reduce": 2 * others, "collective-permute": 1.0}
    return sum(share.get(kind, others) * count for kind, count in by_kind.items())


def _kind(computation: Computation, instruction: Instruction) -> str:
    """The kind of a collective; the opcode of other instructions."""
    kind = instruction.opcode.removesuffix("-start")
    if kind == "all-reduce" and _is_sliced(computation, instruction):
        return "reduce-scatter"
    return kind


def _is_sliced(computation: Computation, instruction: Instruction) -> bool:
    """Whether an all-reduce is part of a TPU's reduce-scatter, a fusion that slices the sum."""
    return any(
        each.opcode == "dynamic-slice" and computation[each.operands[0]] is instruction
        for each in computation.values()
        if each.is_root
    )


def _size(computation: Computation, instruction: Instruction) -> int:
    operands = sum(size(computation[name].result) for name in instruction.operands)
    if instruction.opcode in ("all-gather", "all-reduce", "all-reduce-start"):
        return size(instruction.result)
    if instruction.opcode == "all-gather-start":
        return size(instruction.result) - operands  # the result contains the operands
    return operands
