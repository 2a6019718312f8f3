"""The FLOPs of the matrix products and convolutions of a compiled program."""

from __future__ import annotations

import math
import re

import numpy as np

from ssljax.roofline.hlo import Computation, Instruction, Program, shape
from ssljax.roofline.loops import total


def flops(program: Program, *, repeat_loops: bool = True) -> int:
    """FLOPs of all dots and convolutions of one execution of the program on one device.

    A multiply-add is two FLOPs. Like XLA's own count, it leaves out products with padding.

    Args:
      program: the compiled program.
      repeat_loops: False counts the body of every loop once, as XLA does.
    """
    return total(program, _flops, inside_fusions=True, repeat_loops=repeat_loops)


def _flops(computation: Computation, instruction: Instruction) -> int:
    # GPU programs have custom calls of cuBLAS and cuDNN.
    if instruction.opcode in ("dot", "convolution", "custom-call"):
        if "lhs_contracting_dim" in instruction.attributes:
            return _dot_flops(computation, instruction)
        if "dim_labels" in instruction.attributes:
            return _convolution_flops(computation, instruction)
    return 0


def _dot_flops(computation: Computation, instruction: Instruction) -> int:
    # A dot has lhs_contracting_dims={1}, a custom call "lhs_contracting_dimensions":["1"].
    found = re.search(r"lhs_contracting_dim[^{[]*[{[]([^}\]]*)", instruction.attributes)
    axes = [int(axis) for axis in re.findall(r"\d+", found[1])] if found else []
    lhs = shape(computation[instruction.operands[0]].result)
    return 2 * math.prod(shape(instruction.result)) * math.prod(lhs[axis] for axis in axes)


def _convolution_flops(computation: Computation, instruction: Instruction) -> int:
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        raise ValueError(f"cannot parse dim_labels: {instruction.attributes[:200]!r}")
    shapes = [shape(computation[name].result) for name in instruction.operands[:2]]
    if "convBackwardInput" in instruction.attributes:
        output, kernel = shapes
        inputs = shape(instruction.result)
    elif "convBackwardFilter" in instruction.attributes:
        inputs, output = shapes
        kernel = shape(instruction.result)
    else:
        inputs, kernel = shapes
        output = shape(instruction.result)
    input_axes, kernel_axes, output_axes = (
        dict(zip(axes, sizes, strict=True))
        for axes, sizes in zip(labels.groups(), (inputs, kernel, output), strict=True)
    )
    products = 1
    for axis in filter(str.isdigit, kernel_axes):
        sizes = (input_axes[axis], kernel_axes[axis], output_axes[axis])
        products *= _products(*sizes, *_window(instruction, int(axis)))
    # The kernel has the input features of one feature group, so groups need no further factor.
    products *= kernel_axes["i"] * kernel_axes["o"] * input_axes["b"]
    groups = re.search(r"batch_group_count=(\d+)", instruction.attributes)
    return 2 * products // (int(groups[1]) if groups else 1)


def _window(instruction: Instruction, axis: int) -> tuple[int, int, int, int]:
    """Stride, low padding, dilation of the input and of the kernel along a spatial axis."""
    found = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    fields = dict(re.findall(r"(\w+)=(\S+)", found[1] if found else ""))
    values = {key: value.split("x")[axis] for key, value in fields.items()}
    return (
        int(values.get("stride", 1)),
        int(values.get("pad", "0").partition("_")[0]),
        int(values.get("lhs_dilate", 1)),
        int(values.get("rhs_dilate", 1)),
    )


def _products(
    inputs: int, kernel: int, outputs: int, stride: int, low: int, dilate: int, spread: int
) -> int:
    """The pairs of an output and a kernel position along an axis that meet an input element."""
    positions = np.arange(outputs)[:, None] * stride - low + np.arange(kernel) * spread
    inside = (positions >= 0) & (positions % dilate == 0) & (positions // dilate < inputs)
    return int(inside.sum())
