"""Compares contenders that take turns, each in its own process.

A contender is a function that prepares the work and returns another function. That function does
the work once and returns the number of images, or the number of images and the seconds if it
measures the time itself. A contender's process waits while the others work.

The speed of a machine changes over time, so rates are compared within a round. The report has the
median over the rounds.
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

# Flags that several benchmarks share: the default and the help text.
FLAGS: dict[str, tuple[Any, str]] = {
    "images": (8192, "number of photographs"),
    "batch": (64, "images in a batch"),
    "steps": (3, "training steps in each turn"),
    "width": (1.0, "width of AlexNet, relative to the original"),
    "threads": (len(os.sched_getaffinity(0)), "reader threads or processes"),
}


def arguments(description: str, *flags: str, rounds: int = 5) -> argparse.ArgumentParser:
    """Makes the argument parser of a benchmark.

    Args:
      description: the first line of the help text.
      *flags: names in `FLAGS` that the benchmark has in addition to the common flags.
      rounds: the default number of rounds.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="number of turns of each contender"
    )
    parser.add_argument(
        "--folder", default="/tmp/ssljax-benchmarks", help="where generated data is stored"
    )
    parser.add_argument("--json", default="", help="also write the results to this file")
    parser.add_argument("--only", default="", help="run only these contenders, comma-separated")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="CONTENDER=PYTHON",
        help="run a contender with another Python interpreter",
    )
    for flag in flags:
        default, help_text = FLAGS[flag]
        parser.add_argument(f"--{flag}", type=type(default), default=default, help=help_text)
    return parser


def run_command(python: str, *arguments: str) -> tuple[float, float]:
    """Runs `python -m` with these arguments.

    Args:
      python: the interpreter.
      *arguments: the module and its arguments.

    Returns:
      The seconds, including the start of the interpreter, and the peak memory in MiB.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {code}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


class Process:
    """A contender in its own process.

    Attributes:
      name: of the contender.
      fault: why it cannot work; empty if it can.
    """

    def __init__(self, module: str, name: str, python: str, options: Mapping[str, Any]):
        """Starts the process and waits until the contender is prepared.

        Args:
          module: the module of the contender's function.
          name: the name of that function.
          python: the interpreter.
          options: the function's arguments.
        """
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
            if line.startswith("{"):  # libraries print other lines
                return json.loads(line)
        return {"fault": f"ended with exit code {self._process.wait()}"}

    def work(self) -> float:
        """Lets the contender work once and returns images per second."""
        assert self._process.stdin is not None
        self._process.stdin.write("work\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "fault" in answer:
            raise SystemExit(f"{self.name}: {answer['fault']}")
        return answer["images"] / answer["seconds"]

    def end(self) -> None:
        """Ends the process."""
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
    """Runs the contenders in turns, prints a table and writes the results.

    Args:
      module: the module of the contenders' functions.
      names: the names of these functions.
      options: the parsed flags, see `arguments`.
      against: the contender that is compared with all others; if it does not run, the first one
        that runs takes its place.
      *flags: the flags that are passed to each contender.

    Returns:
      The results, as they are written to the file.
    """
    values = {flag: getattr(options, flag) for flag in flags}
    pythons = dict(item.split("=", 1) for item in options.python)
    only = options.only.split(",") if options.only else names
    running = []
    for name in names:
        if name in only:
            process = Process(module, name, pythons.get(name, sys.executable), values)
            if process.fault:
                print(f"{name} is skipped: {process.fault}", file=sys.stderr)
            else:
                running.append(process)
    if not running:
        raise SystemExit("no contender can run")
    rates: dict[str, list[float]] = {process.name: [] for process in running}
    against = against if against in rates else running[0].name
    for process in running:
        process.work()  # warm-up
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
        },
    }
    report(results, against)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return results


def report(results: Mapping[str, Any], against: str) -> None:
    """Prints a table of the results.

    Args:
      results: from `compare`.
      against: the contender that is compared with all others.
    """
    print(f"\n{results['machine']}\n")
    print(f"| contender | {against} ÷ contender: median (range) | images/s: median |")
    print("| --- | --- | --- |")
    for name, rates in results["images_per_second"].items():
        ratios = results["ratio"][name]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {name} | {ratio} | {statistics.median(rates):,.0f} |")


def machine() -> str:
    """Describes the processor, the number of cores, the memory and the Python version."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def peak_memory() -> float:
    """The peak memory of this process in MiB."""
    # getrusage would include the memory of the parent process.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Runs a contender in its process: prepares it, then works once per line of the input."""
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
