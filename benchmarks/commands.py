"""Measures whole commands: the time of each `--help`, and the speed and memory of `prepare`.

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
from ssljax.__main__ import COMMANDS


def run(*arguments: str) -> tuple[float, float]:
    """Runs `python -m` with these arguments.

    Returns:
      The seconds, including the start of the interpreter, and the peak memory in MiB.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {code}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Measures the commands and prints a table."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "images", rounds=3)
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    source = deep_fashion(folder, options.images)
    results: dict[str, dict[str, float]] = {}
    for command in COMMANDS:
        seconds = [run(f"ssljax.{command}", "--help")[0] for _ in range(options.rounds + 1)][1:]
        results[f"{command} --help"] = {"seconds": statistics.median(seconds)}
    measured = []
    for _ in range(options.rounds):
        target = folder / "prepared"
        shutil.rmtree(target, ignore_errors=True)
        measured.append(
            run(
                "ssljax.prepare", f"--source={source}", "--format=deep_fashion/slides",
                f"--data_dir={target}",
            )
        )  # fmt: skip
    shutil.rmtree(target)
    seconds = [row[0] for row in measured]
    results["prepare"] = {
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
