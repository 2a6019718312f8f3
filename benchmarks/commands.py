"""Measures the time of each command's `--help`: python -m benchmarks.commands."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys

from benchmarks import contenders
from ssljax.__main__ import COMMANDS


def main() -> None:
    """Measures the commands and prints a table."""
    parser = contenders.arguments(__doc__.partition(":")[0], rounds=3)
    options = parser.parse_args()
    results = {}
    for command in COMMANDS:
        seconds = [
            contenders.run_command(sys.executable, f"ssljax.{command}", "--help")[0]
            for _ in range(options.rounds + 1)
        ][1:]
        results[f"{command} --help"] = statistics.median(seconds)
    print(f"\n{contenders.machine()}\n\n| command | seconds |\n| --- | --- |")
    for command, median in results.items():
        print(f"| {command} | {median:.2f} |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
