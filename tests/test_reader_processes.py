from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from ssljax.data import pipeline
from ssljax.data.cache import open_images
from ssljax.data.image_source import ImageSource
from ssljax.data.readers import batch_requests, reader_processes
from ssljax.data.records import Records, open_records
from ssljax.methods import make_method
from ssljax.methods.jigsaw import Jigsaw
from ssljax.methods.method import DataSpec, Method
from ssljax.settings.errors import InputError, TrainingFailed
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import prepare_deep_fashion, write_folder

METHOD = make_method({"name": "jigsaw", "grid": 2, "tile": 16, "gap": 2}, DataSpec(32))
MANY = 10_000  # epochs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("deep_fashion")
    write_folder(folder / "source", images=50)
    prepare_deep_fashion("official", str(folder / "source"), str(folder / "tfds"))
    return folder / "tfds"


def read(folder, method: Method = METHOD, decoding: str = "fast", **options):
    records = open_records("deep_fashion/official", "train", str(folder))
    settings = {
        "batch_size": 8, "epochs": MANY, "seed": 1, "train": True, "random_crop": True,
        "workers": 2,
    }  # fmt: skip
    source = ImageSource(records, 32, decoding)
    return pipeline.batches(source, method.draw, **{**settings, **options})


@pytest.fixture(scope="module")
def processes(folder):
    """Two that are ready; those that tests of other files have left are ended."""
    while reader_processes._shared:
        reader_processes._shared.popitem()[1].close()
    batches = read(folder)
    next(batches)
    shared = reader_processes.shared(2)
    while shared.up < 2:
        time.sleep(0.05)
        next(batches)
    return shared


def assert_same(left, right):
    assert len(left) == len(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def children(process: int | str = "self") -> set[int]:
    """The reader processes among the children; libraries may have started others."""
    found = set()
    for thread in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found |= {int(child) for child in thread.read_text().split()}
    return {child for child in found if is_reader(child)}


def is_reader(process: int) -> bool:
    try:
        return "ssljax.data.readers" in pathlib.Path(f"/proc/{process}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_processes_change_nothing(folder, processes, decoding):
    """Training and, in its midst, evaluation; all batches are held: more than there are slots."""
    options = {"epochs": 9, "decoding": decoding}
    train = read(folder, **options)
    first = list(itertools.islice(train, 5))
    evaluation = list(read(folder, train=False, **options))
    assert_same([*first, *train], list(read(folder, workers=0, **options)))
    assert_same(evaluation, list(read(folder, workers=0, train=False, **options)))
    assert_same(list(read(folder, train=False, start_step=7, **options)), evaluation[7:])


def test_memory_that_jax_uses_is_not_filled_again(folder, processes):
    """On a CPU a `jax.Array` may lie on the memory that a process has filled."""
    kept = []
    expected = read(folder, workers=0)
    for step, batch in enumerate(itertools.islice(read(folder), 60)):
        on_device = jax.device_put(batch)
        del batch
        kept = [*kept[-3:], (on_device, next(expected))]
        for device, host in kept if step % 4 == 0 else ():
            assert_same([jax.device_get(device)], [host])


def test_cached_images_are_read_by_threads(folder):
    records = open_records("deep_fashion/official", "train", str(folder))
    [kept] = open_images("ram", records, size=32, decoding="fast")
    before = children()
    settings = {"batch_size": 8, "epochs": 1, "seed": 1, "train": True}
    batches = list(pipeline.batches(kept, METHOD.draw, workers=3, **settings))
    assert children() == before
    assert_same(batches, list(pipeline.batches(kept, METHOD.draw, **settings)))


class Cut(Records):
    def read(self, indices):
        return [
            (data[:200] if index == 2 else data, label)
            for index, (data, label) in zip(indices, super().read(indices), strict=True)
        ]


def test_a_record_that_cannot_be_decoded_is_named(folder, processes):
    records = open_records("deep_fashion/official", "train", str(folder))
    source = ImageSource(Cut(**vars(records)), 32)
    settings = {"batch_size": 8, "epochs": 1, "seed": 1, "train": False}
    with pytest.raises(
        InputError, match="deep_fashion/official, split train: record 2 .*img_.*jpg"
    ):
        list(pipeline.batches(source, METHOD.draw, workers=2, **settings))
    next(read(folder))  # the processes continue


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faulty(Jigsaw):
    def draw(self, rng):
        if rng.random() < 0.1:
            raise ZeroDivisionError("a bug")
        return super().draw(rng)


def test_a_bug_comes_with_its_traceback(folder, processes):
    method = Faulty(grid=2, tile=16, data=DataSpec(32))
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in draw.*ZeroDivisionError: a bug"):
        list(read(folder, method=method, epochs=10))


def test_a_process_that_dies_ends_the_reading(folder, processes):
    batches = read(folder)
    next(batches)
    victim = max(children())
    os.kill(victim, signal.SIGKILL)
    start = time.perf_counter()
    with pytest.raises(TrainingFailed, match=rf"pid {victim}\) was ended by SIGKILL.*memory"):
        list(batches)
    assert time.perf_counter() - start < 5
    others = children()
    assert len(others) == 1
    new = list(read(folder, epochs=2))  # by new ones
    assert_same(new, list(read(folder, epochs=2, workers=0)))
    assert len(children()) == 2
    assert not children() & others


def test_processes_that_are_stopped_are_done_without(folder, processes, monkeypatch, capsys):
    monkeypatch.setattr(batch_requests, "PATIENCE", 1)
    batches, expected = read(folder), read(folder, workers=0)
    assert_same([next(batches)], [next(expected)])
    while reader_processes.shared(2).up < 2:  # an earlier test may have ended them
        time.sleep(0.05)
        assert_same([next(batches)], [next(expected)])
    stopped = children()
    for child in stopped:
        os.kill(child, signal.SIGSTOP)
    start = time.perf_counter()
    assert_same(list(itertools.islice(batches, 30)), list(itertools.islice(expected, 30)))
    assert time.perf_counter() - start < 10
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(stopped) == 2
    assert all(
        "has not answered for 1 seconds; the training process reads" in line for line in said
    )
    for child in stopped:
        os.kill(child, signal.SIGCONT)
    for _ in range(100):
        assert_same([next(batches)], [next(expected)])
        time.sleep(0.01)
    assert capsys.readouterr().err.count("answers again") == 2
    assert children() == stopped


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from ssljax.data.readers import reader_processes
from tests.test_reader_processes import read
batches = read(sys.argv[1])
next(batches)
while reader_processes.shared(2).up < 2:
    time.sleep(0.05)
    next(batches)
print("up", flush=True)
if sys.argv[2] == "raise":
    raise ValueError("raised")
for batch in batches:
    if sys.argv[2] == "end":
        break
"""


@pytest.mark.parametrize(
    ("how", "number", "code", "errors"),
    [
        ("end", None, 0, ""),
        ("raise", None, 1, "ValueError: raised\n"),
        ("go on", signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt\n"),
        ("go on", signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_nothing_is_left_behind(folder, how, number, code, errors):
    """The signal goes to the whole process group, as a terminal's does."""
    before = sorted(os.listdir("/dev/shm"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), how],
        cwd=REPOSITORY, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "up\n"
    readers = children(process.pid)
    if number == signal.SIGINT:
        assert len(readers) == 2
        os.killpg(process.pid, number)
    elif number:
        process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said.endswith(errors), said
    assert len(said.splitlines()) <= 20 if errors else not said
    assert "resource_tracker" not in said
    for _ in range(100):
        if not any(pathlib.Path(f"/proc/{reader}").exists() for reader in readers):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("readers are still there")
    assert sorted(os.listdir("/dev/shm")) == before


IMPORTS = """
import sys, time
{first}
from ssljax.data.readers import reader_processes
from tests.test_reader_processes import METHOD, read
batches = read(sys.argv[1], method={method}, workers=1)
while not reader_processes.shared(1).up:
    next(batches)
    time.sleep(0.05)
for _ in range(20):
    next(batches)
"""


def run_in(working: pathlib.Path, data: pathlib.Path, *options: str, **code: str) -> None:
    done = subprocess.run(
        [sys.executable, *options, "-c", IMPORTS.format(**code), str(data)],
        cwd=working, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_process_does_not_import_from_the_working_folder(folder, tmp_path):
    """Like a console script, the parent does not have it on its path: -P leaves it out."""
    (tmp_path / "array_record").mkdir()
    (tmp_path / "array_record/__init__.py").write_text("open('imported', 'w').close()\n")
    run_in(tmp_path, folder, "-P", first="", method="METHOD")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("place", [".", "sub"])
def test_a_process_imports_from_where_the_parent_does(folder, tmp_path, place):
    """`-c` puts the working folder on the path."""
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "mine.py").write_text(
        "import dataclasses\nfrom ssljax.methods.jigsaw import Jigsaw\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\nclass Mine(Jigsaw): pass\n"
    )
    run_in(
        tmp_path, folder, first=f"sys.path.append({place!r}); import mine",
        method="mine.Mine(grid=2, tile=16, data=METHOD.data)",
    )  # fmt: skip
