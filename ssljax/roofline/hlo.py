"""Parses the text of a compiled XLA program."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation, such as `%y = f32[2]{0} add(%a, %b), metadata={…}`.

    Attributes:
      result: the type of the result, `f32[2]{0}`. It is a list in parentheses if there are several.
      opcode: `add`.
      arguments: the text in the parentheses, `%a, %b`. It is the value of a constant.
      operands: the names in `arguments`, without `%`.
      attributes: the text after the parentheses.
      is_root: whether the computation returns this result.
    """

    result: str
    opcode: str
    arguments: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    def called(self, *keys: str) -> tuple[str, ...]:
        """The names of the computations in the attributes `keys`, such as `calls` or `body`."""
        found = re.findall(
            rf"\b(?:{'|'.join(keys)})=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.attributes
        )
        names = ",".join(several or one for several, one in found).split(",")
        return tuple(name.strip().lstrip("%") for name in names if name)


# Instructions by name.
Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program of one device.

    Attributes:
      computations: by name.
      entry: the name of the computation that the program starts with.
    """

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Program:
    """Parses the result of `compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    current: Computation = {}
    entry = ""
    for line in text.splitlines():
        if line.endswith("{") and " = " not in line.partition("(")[0]:
            name = line.removeprefix("ENTRY ").lstrip("%").partition(" ")[0].partition("(")[0]
            current = computations.setdefault(name, {})
            entry = name if line.startswith("ENTRY ") else entry
        elif match := _INSTRUCTION.match(line):
            current[match[2]] = _instruction(match[3], is_root=bool(match[1]))
    return Program(computations, entry)


def root(computation: Computation) -> Instruction:
    """The instruction whose result the computation returns."""
    return next(each for each in computation.values() if each.is_root)


def arrays(types: str) -> Iterator[tuple[int, bool]]:
    """The arrays in the type of a result.

    Args:
      types: as in `Instruction.result`.

    Yields:
      The size in bytes, including the padding to tiles, and whether the array is in HBM. A TPU's
      other memories have a number `S(1)` or higher.
    """
    for dtype, sizes, order, layout in _ARRAY.findall(types):
        bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
        dimensions = [int(size) for size in sizes.split(",") if size]
        axes = range(len(dimensions))
        minor_first = [int(axis) for axis in order.split(",") if axis] or axes[::-1]
        if tile := re.search(r"T\(([\d,]+)\)", layout):  # covers the minor axes
            sides = [int(side) for side in tile[1].split(",")]
            for axis, side in zip(minor_first, reversed(sides), strict=False):
                dimensions[axis] = -(-dimensions[axis] // side) * side
            dimensions = dimensions or sides
        yield math.prod(dimensions) * bits // 8, not re.search(r"S\([1-9]", layout)


def size(types: str) -> int:
    """The total size in bytes of the arrays in the type of a result; see `arrays`."""
    return sum(bytes_ for bytes_, _ in arrays(types))


def shape(types: str) -> tuple[int, ...]:
    """The shape of the first array in the type of a result, without padding."""
    match = _ARRAY.search(types)
    if match is None:
        raise ValueError(f"no array type in {types[:80]!r}")
    return tuple(int(each) for each in match[2].split(",") if each)


def _instruction(text: str, is_root: bool) -> Instruction:
    """Parses `RESULT OPCODE(ARGUMENTS), ATTRIBUTES`, in which parentheses can be nested."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = text[end + 1 :].partition("(")[0]
    start = end + 1 + len(opcode)
    stop = _closing(text, start)
    arguments = text[start + 1 : stop]
    operands = tuple(re.findall(r"%([\w.\-]+)", arguments))
    return Instruction(text[:end], opcode, arguments, operands, text[stop + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """The position of the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if not depth:
            return position
    raise ValueError(f"unbalanced parentheses: {text[start : start + 80]!r}")
