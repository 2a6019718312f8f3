"""What a compiled program moves, read from its text.

XLA's own `bytes accessed` counts what lies in a TPU's fast memory like what lies in HBM, and a
whole array for each slice that is fetched of it. Here only what goes to and from HBM counts: the
operands and results of every instruction that lie there, padded to their tiles; fetches and
stores count what they move. What an instruction uses of an operand is taken to be all of it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "bf16": 16}  # of other types, the number in their name
_ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
# They name arrays, or wait for them, and move nothing.
_MOVES_NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "iota",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation: what it gives, what it does, what it takes, and the rest."""

    result: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled module's text.

    Attributes:
      computations: each computation's instructions by their names.
      entry: the name of the computation that is run.
      trips: how often the body of a loop is run, which the text does not say.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str
    trips: int = 1

    def memory_bytes(self) -> int:
        """Bytes to and from HBM."""
        return sum(times * self._moved(*at) for times, *at in self._run(self.entry))

    def all_reduce_bytes(self) -> int:
        """Bytes of the arrays that devices sum up with each other."""
        return sum(
            times * _bytes(self.computations[computation][name].result)
            for times, computation, name in self._run(self.entry)
            if self.computations[computation][name].opcode in ("all-reduce", "all-reduce-start")
        )

    def argument_bytes(self) -> int:
        """Bytes of what the program is given."""
        instructions = self.computations[self.entry].values()
        return sum(_bytes(each.result) for each in instructions if each.opcode == "parameter")

    def _run(self, computation: str, times: int = 1) -> Iterator[tuple[int, str, str]]:
        """How often each instruction is run; what is fused into one is not listed."""
        for name, instruction in self.computations[computation].items():
            if instruction.opcode in ("while", "call", "conditional"):
                inner = times * (self.trips if instruction.opcode == "while" else 1)
                keys = r"(?:body|to_apply|branch_computations|true_computation|false_computation)"
                for found in re.findall(rf"{keys}=\{{?([^}},]*)", instruction.attributes):
                    yield from self._run(found.strip().lstrip("%"), inner)
            else:
                yield times, computation, name

    def _moved(self, computation: str, name: str) -> int:
        instruction = self.computations[computation][name]
        opcode, result = instruction.opcode, instruction.result
        if opcode in _MOVES_NOTHING or opcode.endswith("-done"):
            return 0
        if opcode == "custom-call" and "ConcatBitcast" in instruction.attributes:
            return 0  # slices that were fetched next to each other
        sources = [
            self.computations[computation][operand].result for operand in instruction.operands
        ]
        if opcode in ("copy-start", "slice-start"):
            # The result names source and target; the smaller of them is what is moved.
            ends = [array for array in _arrays(result) if array[0]][:2]
            return min(size for size, _ in ends) * sum(in_hbm for _, in_hbm in ends)
        if opcode == "all-reduce-start":
            result = ""  # the operands again; what is written is counted with them
            sources *= 2
        return sum(size for text in (result, *sources) for size, in_hbm in _arrays(text) if in_hbm)


def parse(text: str, trips: int = 1) -> Program:
    """Reads `compiled.as_text()`."""
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    entry = ""
    for line in text.splitlines():
        if line.endswith("{") and " = " not in line.partition("(")[0]:
            name = line.removeprefix("ENTRY ").lstrip("%").partition(" ")[0].partition("(")[0]
            current = computations.setdefault(name, {})
            entry = name if line.startswith("ENTRY ") else entry
        elif match := _INSTRUCTION.match(line):
            current[match[1]] = _instruction(match[2])
    return Program(computations, entry, trips)


def _instruction(text: str) -> Instruction:
    """Of `RESULT OPCODE(OPERANDS), ATTRIBUTES`, whose parts hold brackets of their own."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode, _, _ = text[end + 1 :].partition("(")
    start = end + 1 + len(opcode)
    stop = _closing(text, start)
    operands = tuple(re.findall(r"%([\w.\-]+)", text[start:stop]))
    return Instruction(text[:end], opcode, operands, text[stop + 1 :])


def _closing(text: str, start: int) -> int:
    """Where the bracket at `start` is closed."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    raise ValueError(f"a bracket is not closed: {text[start : start + 80]}")


def _arrays(text: str) -> Iterator[tuple[int, bool]]:
    """Each array's bytes, and whether it lies in HBM: a TPU's other memories have a number."""
    for kind, sizes, order, layout in _ARRAY.findall(text):
        bits = _BITS.get(kind) or int(kind.lstrip("suf"))
        shape = [int(size) for size in sizes.split(",") if size]
        minor_first = [int(axis) for axis in order.split(",") if axis] or range(len(shape))[::-1]
        if tile := re.search(r"T\(([\d,]+)\)", layout):  # of the axes that vary fastest
            sides = [int(side) for side in tile[1].split(",")]
            for axis, side in zip(minor_first, reversed(sides), strict=False):
                shape[axis] = -(-shape[axis] // side) * side
            shape = shape or sides
        yield math.prod(shape) * bits // 8, not re.search(r"S\([1-9]", layout)


def _bytes(text: str) -> int:
    return sum(size for size, _ in _arrays(text))
