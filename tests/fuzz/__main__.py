"""`python -m tests.fuzz --minutes=10 [--target=images] [--seed=0] [--keep=DIR]`.

Prints a row per target: inputs, how many were refused and how many read, and what broke. An input
that broke something is kept under --keep, as it is and with its traceback.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
import traceback

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from ssljax.settings.command_line import quiet_libraries
from ssljax.settings.errors import InputError
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS, Target, quietly

PATIENCE = 20  # seconds that reading a small file may take


class TooSlow(BaseException):
    """A reader did not come to an end."""


def main() -> None:
    """Gives every target its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="in all (default: 1)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--keep", default="fuzz-findings", help="folder for what broke something")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    signal.signal(signal.SIGALRM, _alarm)
    quiet_libraries()
    print(f"{'target':18} {'inputs':>9} {'refused':>9} {'read':>9} {'broke':>6} {'minutes':>8}")
    broken = 0
    for name in names:
        keep = pathlib.Path(arguments.keep) / name.replace(" ", "-")
        counts = fuzz(name, arguments.seed, keep, seconds=60 * arguments.minutes / len(names))
        broken += counts["broke"]
        values = (counts["inputs"], counts["refused"], counts["read"], counts["broke"])
        print("{:18} {:9,} {:9,} {:9,} {:6,}".format(name, *values), end=" ")
        print(f"{arguments.minutes / len(names):8.1f}", flush=True)
    raise SystemExit(1 if broken else 0)


def fuzz(
    name: str,
    seed: int,
    keep: pathlib.Path,
    seconds: float = float("inf"),
    inputs: float = float("inf"),
) -> dict[str, int]:
    """Damages one file after another until the time is over or all inputs were tried."""
    rng = random.Random(f"{name} {seed}")
    counts = dict.fromkeys(("inputs", "refused", "read", "broke"), 0)
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        good, copy = pathlib.Path(scratch, "good"), pathlib.Path(scratch, "copy")
        good.mkdir()
        target = TARGETS[name](good)
        files = target.files()
        contents = [path.read_bytes() for path in files]
        outside = _listing(pathlib.Path(scratch), copy)
        end = time.monotonic() + seconds
        while time.monotonic() < end and counts["inputs"] < inputs:
            index = rng.randrange(len(files))
            damaged = copy / files[index].relative_to(good)
            shutil.copytree(good, copy)
            damaged.write_bytes(mutate(contents[index], rng, contents))
            outcome, trace = attempt(target, copy, damaged)
            if outcome != "broke" and _listing(pathlib.Path(scratch), copy) != outside:
                outcome, trace = "broke", "wrote outside of its folder"
            counts["inputs"] += 1
            counts[outcome] += 1
            if outcome == "broke" and (where := _place(trace)) not in seen:
                seen.add(where)
                keep.mkdir(parents=True, exist_ok=True)
                stem = f"{len(seen):03}-{damaged.name}"
                shutil.copy(damaged, keep / stem)
                (keep / f"{stem}.txt").write_text(f"{damaged.relative_to(copy)}\n{trace}")
            shutil.rmtree(copy)
    return counts


def attempt(target: Target, folder: pathlib.Path, damaged: pathlib.Path) -> tuple[str, str]:
    """Whether reading was refused, went through, or broke, and the traceback if so."""
    signal.alarm(PATIENCE)
    try:
        quietly(lambda: target.read(folder, damaged))
    except InputError:
        return "refused", ""
    except (Exception, TooSlow):
        return "broke", traceback.format_exc()
    finally:
        signal.alarm(0)
    return "read", ""


def _place(trace: str) -> str:
    """The last frame and the kind of error, which tell one fault from another."""
    frames = [line for line in trace.splitlines() if line.startswith("  File")]
    return f"{frames[-1:]} {trace.splitlines()[-1].partition(':')[0]}"


def _listing(folder: pathlib.Path, but: pathlib.Path) -> set[tuple[str, int]]:
    return {
        (str(path), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and but not in path.parents
    }


def _alarm(number: int, frame: object) -> None:
    raise TooSlow(f"not done after {PATIENCE} seconds")


if __name__ == "__main__":
    main()
