"""Contenders that take turns in one run, each in a process of its own.

A contender is a function that sets itself up and returns another, which does the work once and
returns how many images that were (and in how many seconds, if it has a clock of its own). Its
process waits while others work. Rates of one round are compared with each other, since a machine's
speed drifts; reported is the median over the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Work = Callable[[], int | tuple[int, float]]
Contender = Callable[..., Work]


# Flags that several benchmarks have, with their defaults.
FLAGS: dict[str, tuple[Any, str]] = {
    "images": (8192, "photographs"),
    "batch": (64, "examples in a batch"),
    "steps": (3, "training steps in a turn"),
    "width": (1.0, "of AlexNet"),
    "threads": (len(os.sched_getaffinity(0)), "or processes that read"),
}


def arguments(description: str, *flags: str, rounds: int = 5) -> argparse.ArgumentParser:
    """The flags that every benchmark has, and some of `FLAGS`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="repetitions in turn")
    parser.add_argument("--folder", default="/tmp/ssljax-benchmarks", help="for what is generated")
    parser.add_argument("--json", default="", help="also write the results into this file")
    parser.add_argument("--only", default="", help="these contenders alone, comma-separated")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="CONTENDER=PYTHON",
        help="the interpreter of a contender that needs packages of its own",
    )
    for flag in flags:
        default, help_text = FLAGS[flag]
        parser.add_argument(f"--{flag}", type=type(default), default=default, help=help_text)
    return parser


class Process:
    """A contender in its process, ready to work."""

    def __init__(self, module: str, name: str, python: str, options: Mapping[str, Any]):
        self.name = name
        command = [python, "-m", "benchmarks.contenders", module, name, json.dumps(dict(options))]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=pathlib.Path(__file__).parent.parent,
        )
        self.fault = self._answer().get("fault", "")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # the rest is what libraries print
                return json.loads(line)
        return {"fault": f"ended with exit code {self._process.wait()}"}

    def work(self) -> float:
        """Images per second of one turn."""
        assert self._process.stdin is not None
        self._process.stdin.write("work\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "fault" in answer:
            raise SystemExit(f"{self.name}: {answer['fault']}")
        return answer["images"] / answer["seconds"]

    def end(self) -> None:
        """Lets it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(
    module: str,
    names: Sequence[str],
    options: argparse.Namespace,
    against: str,
    *flags: str,
) -> dict[str, Any]:
    """Lets the contenders work in turn, prints a table and writes the JSON.

    Args:
      module: where the contenders are functions of these names.
      names: of the contenders.
      options: see `arguments`.
      against: the contender whose ratio to the others is of interest.
      *flags: whose values each contender is called with.

    Returns:
      The results, as written.
    """
    values = {flag: getattr(options, flag) for flag in flags}
    pythons = dict(item.split("=", 1) for item in options.python)
    only = options.only.split(",") if options.only else names
    running = []
    for name in names:
        if name in only:
            process = Process(module, name, pythons.get(name, sys.executable), values)
            if process.fault:
                print(f"{name} is left out: {process.fault}", file=sys.stderr)
            else:
                running.append(process)
    rates: dict[str, list[float]] = {process.name: [] for process in running}
    for process in running:
        process.work()  # warms up, and is not counted
    for turn in range(options.rounds):
        for process in running[turn % len(running) :] + running[: turn % len(running)]:
            rates[process.name].append(process.work())
    for process in running:
        process.end()
    results = {
        "machine": machine(),
        "options": vars(options),
        "images_per_second": rates,
        "ratio": {
            name: [ours / theirs for ours, theirs in zip(rates[against], values, strict=True)]
            for name, values in rates.items()
            if against in rates
        },
    }
    report(results, against)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return results


def report(results: Mapping[str, Any], against: str) -> None:
    """Prints the table, ratios first."""
    print(f"\n{results['machine']}\n")
    print(f"| contender | {against} ÷ it: median (range) | images/s: median |")
    print("| --- | --- | --- |")
    for name, rates in results["images_per_second"].items():
        ratios = results["ratio"].get(name)
        ratio = (
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            if ratios
            else "–"
        )
        print(f"| {name} | {ratio} | {statistics.median(rates):,.0f} |")


def machine() -> str:
    """Processor, cores, memory, Python."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def peak_memory() -> float:
    """Of this process, in MiB; `getrusage` would count that of the process that started it."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Runs in a contender's process: sets it up, then works whenever it is asked to."""
    module, name, options = sys.argv[1:]
    try:
        work = getattr(importlib.import_module(module), name)(**json.loads(options))
    except ImportError as error:
        print(json.dumps({"fault": str(error)}), flush=True)
        return
    print("{}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        done = work()
        images, seconds = done if isinstance(done, tuple) else (done, time.perf_counter() - start)
        print(json.dumps({"images": images, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
