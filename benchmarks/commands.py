"""Whole commands: how long `--help` takes, and how fast and in how much memory `prepare` works.

python -m benchmarks.commands [--images=8192]
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from benchmarks import contenders
from benchmarks.photographs import deep_fashion

HELP = ("train", "study", "evaluate", "predict", "weights", "data.prepare")


def run(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a command, its interpreter's start included."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: exit status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Measures and prints."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "images", rounds=3)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    source = deep_fashion(folder, options.images)
    results: dict[str, dict[str, float]] = {}
    for command in HELP:
        seconds = [run(f"ssljax.{command}", "--help")[0] for _ in range(options.rounds + 1)][1:]
        results[f"{command} --help"] = {"seconds": statistics.median(seconds)}
    measured = []
    for _ in range(options.rounds):
        target = folder / "prepared-anew"
        shutil.rmtree(target, ignore_errors=True)
        measured.append(
            run(
                "ssljax.data.prepare", "--dataset=deep_fashion/slides", f"--source={source}",
                f"--data_dir={target}",
            )
        )  # fmt: skip
    shutil.rmtree(target)
    seconds = [row[0] for row in measured]
    results["data.prepare"] = {
        "seconds": statistics.median(seconds),
        "images/s": options.images / statistics.median(seconds),
        "peak memory, MiB": max(row[1] for row in measured),
    }
    print(f"\n{contenders.machine()}\n")
    print("| command | seconds | images/s | peak memory, MiB |\n| --- | --- | --- | --- |")
    for command, row in results.items():
        rate, memory = row.get("images/s"), row.get("peak memory, MiB")
        numbers = (f"{rate:,.0f} | {memory:,.0f}") if rate and memory else "– | –"
        print(f"| {command} | {row['seconds']:.2f} | {numbers} |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
