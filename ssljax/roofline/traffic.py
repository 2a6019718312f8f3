"""The bytes that a compiled program reads from memory and writes to it.

XLA's `bytes accessed` also counts arrays in a TPU's on-chip memory, and it counts the whole array
when only a slice is fetched. This module counts the operands and results that are in HBM, padded to
tiles. Fetches, stores, dynamic slices and dynamic updates count the bytes they move. Every other
instruction is assumed to read all of its operands.
"""

from __future__ import annotations

from ssljax.roofline.hlo import Computation, Instruction, Program, arrays, root, size
from ssljax.roofline.loops import total

# These name arrays or wait for them, and move nothing.
_MOVES_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "iota",
}  # fmt: skip


def memory_bytes(program: Program, *, repeat_loops: bool = True) -> int:
    """Bytes that one device reads from HBM and writes to it in one execution of the program.

    Args:
      program: the compiled program.
      repeat_loops: False counts the body of every loop once.
    """

    def moved(computation: Computation, instruction: Instruction) -> int:
        return _moved(program, computation, instruction)

    return total(program, moved, repeat_loops=repeat_loops)


def argument_bytes(program: Program) -> int:
    """The size in bytes of the program's arguments on one device."""
    instructions = program.computations[program.entry].values()
    return sum(size(each.result) for each in instructions if each.opcode == "parameter")


def _moved(program: Program, computation: Computation, instruction: Instruction) -> int:
    opcode, result = instruction.opcode, instruction.result
    if opcode in _MOVES_NOTHING or opcode.endswith("-done"):
        return 0
    if opcode == "custom-call" and "ConcatBitcast" in instruction.attributes:
        return 0  # joins slices that were fetched into adjacent memory
    if opcode in ("copy-start", "slice-start"):
        # The result contains source and target. The smaller of them is what is moved.
        ends = [array for array in arrays(result) if array[0]][:2]
        return min(bytes_ for bytes_, _ in ends) * sum(in_hbm for _, in_hbm in ends)
    operands = [_in_hbm(computation[name].result) for name in instruction.operands]
    if opcode == "all-reduce-start":
        return 2 * sum(operands)  # the result is the operands, which are read and written
    if opcode.endswith("-start"):
        return _in_hbm(result)  # the result contains the operands
    read = sum(_read(program, instruction, *each) for each in enumerate(operands))
    return read + _written(program, computation, instruction)


def _in_hbm(types: str) -> int:
    return sum(bytes_ for bytes_, in_hbm in arrays(types) if in_hbm)


def _read(program: Program, instruction: Instruction, position: int, whole: int) -> int:
    """The bytes that an instruction reads of its operand at `position`, which has `whole` bytes."""
    if instruction.opcode == "dynamic-slice" and position == 0:
        return min(whole, size(instruction.result))
    if instruction.opcode == "dynamic-update-slice" and position == 0:
        return 0  # updated in place
    if instruction.opcode == "fusion":
        fused = program.computations[instruction.called("calls")[0]]
        parameter = next(
            name
            for name, each in fused.items()
            if each.opcode == "parameter" and each.arguments == str(position)
        )
        return min(whole, _read_inside(program, fused, parameter, whole))
    return whole


def _read_inside(program: Program, fused: Computation, name: str, whole: int) -> int:
    """The bytes that the instructions of a fusion read of a value."""
    result = 0
    for user_name, user in fused.items():
        if name in user.operands and _is_bitcast(program, user) and not user.is_root:
            result += _read_inside(program, fused, user_name, whole)
        else:
            positions = [place for place, each in enumerate(user.operands) if each == name]
            result += sum(_read(program, user, position, whole) for position in positions)
    return result


def _is_bitcast(program: Program, instruction: Instruction) -> bool:
    """Whether the instruction only names its operand, as some fusions of TPUs do."""
    if instruction.opcode != "fusion":
        return instruction.opcode == "bitcast"
    fused = program.computations[instruction.called("calls")[0]]
    return all(each.opcode in ("parameter", "bitcast") for each in fused.values())


def _written(program: Program, computation: Computation, instruction: Instruction) -> int:
    """The bytes that an instruction writes to HBM."""
    outputs = [instruction]
    if instruction.opcode == "fusion":
        computation = program.computations[instruction.called("calls")[0]]
        outputs = [root(computation)]
        if outputs[0].opcode == "tuple":
            outputs = [computation[name] for name in outputs[0].operands]
    result = 0
    for index, (whole, in_hbm) in enumerate(arrays(instruction.result)):
        output = outputs[index] if len(outputs) > 1 else outputs[0]
        while output.opcode == "bitcast":
            output = computation[output.operands[0]]
        if output.opcode == "dynamic-update-slice":
            whole = min(whole, size(computation[output.operands[1]].result))
        result += whole * in_hbm
    return result
