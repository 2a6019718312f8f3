"""Sums over the instructions that a program executes, with the trip counts of its loops."""

from __future__ import annotations

import re
from collections.abc import Callable

from ssljax.roofline.hlo import Computation, Instruction, Program, root


def total(
    program: Program,
    value: Callable[[Computation, Instruction], int],
    *,
    inside_fusions: bool = False,
    repeat_loops: bool = True,
) -> int:
    """Sums a value over all instructions that one execution of the program runs.

    The body of a loop counts once per iteration. It counts once if the trip count is unknown. Of a
    conditional, the branch with the largest sum counts.

    Args:
      program: the compiled program.
      value: maps a computation and one of its instructions to a number.
      inside_fusions: whether instructions inside fusions and asynchronous computations count.
      repeat_loops: False counts the body of every loop once.
    """

    def of(name: str) -> int:
        computation = program.computations[name]
        result = 0
        for instruction in computation.values():
            if instruction.opcode == "while":
                trips = trip_count(program, computation, instruction) if repeat_loops else 1
                repeats = 1 if trips is None else trips
                result += repeats * of(*instruction.called("body"))
            elif instruction.opcode == "conditional":
                keys = ("branch_computations", "true_computation", "false_computation")
                result += max(map(of, instruction.called(*keys)))
            elif instruction.opcode == "call":
                result += of(*instruction.called("to_apply"))
            else:
                result += value(computation, instruction)
                if inside_fusions and instruction.opcode in ("fusion", "async-start"):
                    result += of(*instruction.called("calls"))
        return result

    return of(program.entry)


def unknown_trip_counts(program: Program) -> int:
    """The number of loops in the program whose trip count is unknown."""
    return sum(
        trip_count(program, computation, instruction) is None
        for computation in program.computations.values()
        for instruction in computation.values()
        if instruction.opcode == "while"
    )


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """The number of iterations of a loop, or None if it is unknown.

    XLA writes trip counts into the programs of CPUs and GPUs, but not into those of TPUs. If the
    trip count is missing, it is computed for a loop that counts from one constant to another.

    Args:
      program: the compiled program.
      computation: the computation that contains the loop.
      loop: a `while` instruction.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
        return int(known[1])
    condition = program.computations[loop.called("condition")[0]]
    body = program.computations[loop.called("body")[0]]
    compare, initial, updated = root(condition), computation[loop.operands[0]], root(body)
    if (compare.opcode, initial.opcode, updated.opcode) != ("compare", "tuple", "tuple"):
        return None
    if "direction=LT" not in compare.attributes:
        return None
    counter, limit = compare.operands
    index = _index(condition, counter)
    if index is None:
        return None
    start, stop = _constant(computation, initial.operands[index]), _constant(condition, limit)
    step = _increment(body, updated.operands[index], index)
    if start is None or stop is None or step is None or step <= 0:
        return None
    return max(0, -(-(stop - start) // step))


def _original(computation: Computation, name: str) -> Instruction:
    """The instruction that computes a value, which can be copied afterwards."""
    instruction = computation[name]
    while instruction.opcode in ("copy", "copy-start", "copy-done", "bitcast"):
        instruction = computation[instruction.operands[0]]
    return instruction


def _index(computation: Computation, name: str) -> int | None:
    """The index of a value in the loop's state, or None if it is not an element of the state."""
    instruction = _original(computation, name)
    if instruction.opcode != "get-tuple-element":
        return None
    if computation[instruction.operands[0]].opcode != "parameter":
        return None
    found = re.search(r"index=(\d+)", instruction.attributes)
    return int(found[1]) if found else None


def _constant(computation: Computation, name: str) -> int | None:
    """The value of an integer constant, or None if it is something else."""
    instruction = _original(computation, name)
    is_integer = instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.arguments)
    return int(instruction.arguments) if is_integer else None


def _increment(body: Computation, name: str, index: int) -> int | None:
    """The constant that the body adds to element `index` of the state, or None if it does not."""
    instruction = _original(body, name)
    if instruction.opcode != "add":
        return None
    counter, step = instruction.operands
    if _index(body, counter) != index:
        counter, step = step, counter
    return _constant(body, step) if _index(body, counter) == index else None
