"""`python -m tests.fuzz --minutes=10 [--target=images] [--seed=0] [--keep=DIR]`.

Damages files that come from others, gives them to commands, and prints a row per kind of files:
inputs, how many were refused and how many read, what broke, and the slowest and largest command.
A command may read the files, or refuse them with a message. It breaks if it ends with a traceback
or by a signal, takes more than 20 seconds or 2 GiB, writes elsewhere than it was told, starts
another program, or prints what acts on a terminal. What broke it is kept under --keep.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the process has no threads when it is forked

from tests.fuzz import command, places
from tests.fuzz.data_targets import AnnotationLists, Images, PreparedSets, Sources
from tests.fuzz.mutate import mutate
from tests.fuzz.run_targets import ResumedRuns, RunFolders, Settings, Studies, Weights
from tests.fuzz.target import Target

TARGETS: dict[str, type[Target]] = {
    "annotation lists": AnnotationLists,
    "images": Images,
    "sources": Sources,
    "prepared data sets": PreparedSets,
    "settings": Settings,
    "weights": Weights,
    "run folders": RunFolders,
    "resumed runs": ResumedRuns,
    "studies": Studies,
}
_HEADER = ("inputs", "refused", "read", "broke", "slowest, s", "most, MiB", "minutes")


def main() -> None:
    """Gives every target its share of the time."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=9, help="in all (default: 9)")
    parser.add_argument("--inputs", type=int, default=10**9, help="of each target at most")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument(
        "--patience", type=float, default=command.SECONDS, help="seconds (default: 20)"
    )
    parser.add_argument("--keep", default="fuzz-findings", help="folder for what broke something")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    command.import_libraries()
    print("  ".join([f"{'target':18}", *_HEADER]), flush=True)
    broken = 0
    for name in names:
        fuzzing = Fuzzing(name, arguments.seed, pathlib.Path(arguments.keep), arguments.patience)
        fuzzing.run(60 * arguments.minutes / len(names), arguments.inputs)
        broken += fuzzing.counts["broke"]
        print(fuzzing.row(), flush=True)
    raise SystemExit(1 if broken else 0)


class Fuzzing:
    """Damages one file after another, and keeps count."""

    def __init__(self, name: str, seed: int, keep: pathlib.Path, patience: float):
        self.name, self.patience, self.keep = name, patience, keep / name.replace(" ", "-")
        self.rng = random.Random(f"{name} {seed}")
        self.counts = dict.fromkeys(("inputs", "refused", "read", "broke"), 0)
        self.slowest, self.most, self.took = 0.0, 0, 0.0

    def run(self, seconds: float, inputs: int) -> None:
        """Until the time is over, or all inputs were tried."""
        root = pathlib.Path(tempfile.mkdtemp())  # no object would remove it in a forked process
        try:
            given, beside, world = root / "given", root / "beside", root / "world"
            for folder in (given, beside, world / "home"):
                folder.mkdir(parents=True)
            _clear(world)
            target = TARGETS[self.name](given, beside, world)
            target.prepare()
            self.contents = {path: path.read_bytes() for path in target.files()}
            start = time.monotonic()
            while time.monotonic() < start + seconds and self.counts["inputs"] < inputs:
                self._try(target, world / "copy")
            self.took = time.monotonic() - start
        finally:
            shutil.rmtree(root)

    def _try(self, target: Target, copy: pathlib.Path) -> None:
        shutil.copytree(target.given, copy)
        files = list(self.contents)
        self.notes: list[str] = []
        paths = [copy / self._damage(target, copy) for _ in range(min(target.at_once, len(files)))]
        target.after_damage(copy, self.rng)
        kept = copy.parent.parent / "damaged"
        _copy_files(paths, kept)
        arguments = target.command(copy, paths[0], self.rng)
        before = _listing(copy.parent.parent, but=copy.parent)
        ended = command.run(arguments, copy.parent, seconds=self.patience)
        if ended.late:  # other work on the machine may be the reason
            ended = command.run(arguments, copy.parent, seconds=self.patience)
        fault = ended.fault()
        if _listing(copy.parent.parent, but=copy.parent) != before:
            fault = fault or "wrote outside of its folders"
        outcome = "broke" if fault else "refused" if ended.code else "read"
        self.counts["inputs"] += len(paths)
        self.counts[outcome] += len(paths)
        self.slowest, self.most = max(self.slowest, ended.seconds), max(self.most, ended.memory)
        if fault:
            number = self.counts["inputs"]
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.copytree(kept, self.keep / f"{number:05}", dirs_exist_ok=True)
            text = (
                f"{fault}\npython -m ssljax.{' '.join(arguments)}\n{self.notes}\n\n{ended.output}"
            )
            (self.keep / f"{number:05}.txt").write_text(text, errors="backslashreplace")
        shutil.rmtree(kept)
        _clear(copy.parent)

    def _damage(self, target: Target, copy: pathlib.Path) -> pathlib.Path:
        """Damages a file; returns its place in the copy."""
        path = self.rng.choice(list(self.contents))
        place = copy / path.relative_to(target.given)
        if self.rng.random() < 0.05 and place.is_file():
            what = places.replace(place, self.rng)
            self.notes.append(f"{place}: {what}")
        elif place.is_file() and not place.is_symlink():
            others = list(self.contents.values())
            place.write_bytes(mutate(self.contents[path], self.rng, others))
        return path.relative_to(target.given)

    def row(self) -> str:
        """The line of the table."""
        numbers = [f"{self.counts[name]:,}" for name in _HEADER[:4]]
        numbers += [f"{self.slowest:.1f}", f"{self.most / 2**20:,.0f}", f"{self.took / 60:.1f}"]
        pairs = zip(numbers, _HEADER, strict=True)
        return "  ".join([f"{self.name:18}", *(f"{text:>{len(name)}}" for text, name in pairs)])


def _clear(world: pathlib.Path) -> None:
    """Removes all but the home, where compiled programs are kept."""
    for path in world.iterdir():
        if path.name != "home":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in ("tmp", "cwd"):
        (world / name).mkdir()


def _copy_files(paths: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Copies the regular ones among some small files."""
    folder.mkdir()
    for index, path in enumerate(paths):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**24:
            shutil.copy(path, folder / f"{index}-{path.name}")


def _listing(folder: pathlib.Path, but: pathlib.Path) -> set[tuple[str, int]]:
    return {
        (str(path), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and but not in path.parents
    }


if __name__ == "__main__":
    main()
