"""Compiles the training step for TPU slices of 1 to 256 chips and prints tables of its bounds.

    python -m benchmarks.tpu_slices --json=slices.json [--chips=v5e,v6e] [--compile=1,8]

It needs libtpu; see `python -m ssljax.compile --help`. Nothing is run on a TPU. Compiling takes one
to seven minutes per slice. Results in the JSON file are reused.

A slice of several chips that is not compiled is marked with ≈ in the tables. Its row is computed
from the program of another slice of the same chip. With the same batch per chip, only the time of
the collectives differs, as long as their arrays do not grow with the number of chips.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from ssljax.roofline import slices
from ssljax.roofline.bounds import Cost, bounds
from ssljax.roofline.slices import Slice

HEADS = (
    "slice", "batch", "memory", "arithmetic", "memory traffic", "interconnect", "bound by",
    "images/s per chip", "images/s", "without overlap",
)  # fmt: skip


def compiled(tpu_slice: Slice, config: str, batch: int) -> dict[str, Any]:
    """The result of `python -m ssljax.compile --json` for a slice, run in a new process."""
    command = [
        sys.executable, "-m", "ssljax.compile", f"--config={config}",
        f"--topology={tpu_slice.name}", f"--config.batch_size={batch * tpu_slice.chips}", "--json",
    ]  # fmt: skip
    print(tpu_slice.name, file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def row(tpu_slice: Slice, result: dict[str, Any]) -> list[str]:
    """The table row of a slice, from its own program or from that of another slice."""
    step = result["step"]
    cost = Cost(step["images"], step["flops"], step["memory_bytes"], step["collective_bytes"])
    least = bounds(cost, tpu_slice.chip, tpu_slice)
    mark = "" if result["topology"] == tpu_slice.name else "≈ "
    rates = [
        cost.images / least.overlapped,
        cost.images / least.overlapped * tpu_slice.chips,
        cost.images / least.in_turn * tpu_slice.chips,
    ]
    return [
        f"{mark}`{tpu_slice.name}`",
        f"{cost.images * tpu_slice.chips:,}",
        f"{result['memory']['total'] / 1e9:.2f} GB",
        *(f"{each * 1e3:.2f} ms" for each in (least.arithmetic, least.memory, least.interconnect)),
        least.binds,
        *(f"{float(f'{rate:.3g}'):,.0f}" for rate in rates),
    ]


def table(rows: list[list[str]]) -> str:
    """Formats rows as a Markdown table."""
    lines = [list(HEADS), ["---"] * len(HEADS), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Compiles the slices that are not in the JSON file and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", default="configs/jigsaw.py:3x3", help="the config to compile")
    parser.add_argument("--batch", type=int, default=128, help="batch size per chip")
    parser.add_argument("--chips", default=",".join(slices.SLICES), help="comma-separated names")
    parser.add_argument(
        "--compile",
        default="1,4,8,16,32,64,128,256",
        help="numbers of chips of the slices to compile",
    )
    parser.add_argument("--json", required=True, help="the file that stores the results")
    options = parser.parse_args()
    counts = [int(count) for count in options.compile.split(",")]
    path = pathlib.Path(options.json)
    results = json.loads(path.read_text()) if path.exists() else {}
    for chip in options.chips.split(","):
        of_chip = [slices.parse(f"{chip}:{shape}") for shape in slices.SLICES[chip]]
        keys = {each: f"{options.config} {options.batch} {each.name}" for each in of_chip}
        for tpu_slice, key in keys.items():
            if key not in results and tpu_slice.chips in counts:
                results[key] = compiled(tpu_slice, options.config, options.batch)
                path.write_text(json.dumps(results, indent=1) + "\n")
        several = [results[keys[each]] for each in of_chip[1:] if keys[each] in results]
        rows = [
            row(each, results.get(keys[each]) or several[-1])
            for each in of_chip
            if keys[each] in results or (several and each.chips > 1)
        ]
        print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
