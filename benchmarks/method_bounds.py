"""Compiles the training step of each kind of method for one TPU chip and prints its bounds.

    python -m benchmarks.method_bounds --json=bounds.json [--only=jigsaw,simclr]

Photographs of 224 px, with the settings of `configs/pretrain.py`. It needs libtpu; see `python -m
ssljax.compile --help`. Nothing is run on a TPU. Compiling takes two to ten minutes per step.
Results in the JSON file are reused.

The program is compiled for v5e. The bounds of v6e and H100 divide what it computes and moves by
their data sheets; another compiler makes another program, so these are estimates. The last columns
are the cores that decode that many photographs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from ssljax.roofline.bounds import Cost, bounds
from ssljax.roofline.chips import CHIPS

STEPS = (  # method, model, images per chip
    ("jigsaw", "alexnet", 32),
    ("jigsaw", "alexnet", 64),
    ("jigsaw", "alexnet", 128),
    ("jigsaw", "alexnet", 256),
    ("rotation", "resnet50", 32),
    ("simclr", "resnet50", 64),
    ("byol", "resnet50", 64),
    ("moco_v2", "resnet50", 64),
    ("swav", "resnet50", 32),
    ("mae", "vit_base", 128),
    ("dino", "vit_small", 32),
)
ON = ("v5e", "v6e", "h100")
HEADS = (
    "method, network", "images per chip", "GFLOP per image", "MB per image",
    *(f"{name}: images/s, bound by" for name in ON), *(f"{name}: cores" for name in ON),
)  # fmt: skip


def compiled(method: str, model: str, batch: int) -> dict[str, Any]:
    """The result of `python -m ssljax.compile --json` for a v5e, run in a new process."""
    command = [
        sys.executable, "-m", "ssljax.compile",
        f"--config=configs/pretrain.py:method={method},model={model},data=prepared",
        "--config.data.dataset=photographs", "--num_classes=1000", "--topology=v5e:1x1",
        f"--config.batch_size={batch}", "--json",
    ]  # fmt: skip
    print(method, model, batch, file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def row(method: str, model: str, result: dict[str, Any], per_core: float) -> list[str]:
    """The table row of a step; `per_core` is how many photographs a core decodes in a second."""
    step = result["step"]
    cost = Cost(step["images"], step["flops"], step["memory_bytes"], {})
    least = {name: bounds(cost, CHIPS[name]) for name in ON}
    rates = {name: cost.images / each.overlapped for name, each in least.items()}
    return [
        f"`{method}`, {model}",
        f"{cost.images}",
        f"{cost.flops / cost.images / 1e9:.1f}",
        f"{cost.memory_bytes / cost.images / 1e6:.0f}",
        *(f"{float(f'{rates[name]:.3g}'):,.0f}, {least[name].binds}" for name in ON),
        *(f"{rates[name] / per_core:.1f}" for name in ON),
    ]


def main() -> None:
    """Compiles the steps that are not in the JSON file and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", default="", help="comma-separated methods; the default is all")
    parser.add_argument(
        "--decoded", type=float, default=1350, help="photographs that a core decodes in a second"
    )
    parser.add_argument("--json", required=True, help="the file that stores the results")
    options = parser.parse_args()
    path = pathlib.Path(options.json)
    results = json.loads(path.read_text()) if path.exists() else {}
    rows = [list(HEADS), ["---"] * len(HEADS)]
    for method, model, batch in STEPS:
        if options.only and method not in options.only.split(","):
            continue
        key = f"{method} {model} {batch}"
        if key not in results:
            results[key] = compiled(method, model, batch)
            path.write_text(json.dumps(results, indent=1) + "\n")
        rows.append(row(method, model, results[key], options.decoded))
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))


if __name__ == "__main__":
    main()
