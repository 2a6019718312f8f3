"""Files that once broke a reader, and some hundred new ones; `python -m tests.fuzz` tries more."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from ssljax import load_run
from ssljax.models.torch.layouts import read_file
from ssljax.runs import checkpoint_data, checksums, saved_checkpoints
from ssljax.runs.checkpoint_files import Unreadable
from ssljax.runs.metrics_log import MetricsLog, read_metrics
from ssljax.runs.saved_checkpoints import DamagedCheckpoint, SavedCheckpoints
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests.conftest import REPOSITORY

FOUND = sorted((REPOSITORY / "tests/fuzz/found").glob("*.pth"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_weights_that_broke_pytorchs_reader(path):
    pytest.importorskip("torch", reason="needs the extra `torch`")
    with pytest.raises(InputError, match=f"{path.name} cannot be read as a state dict of tensors"):
        read_file(path)


def test_weights_whose_storages_have_other_names(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    path = tmp_path / "old.pth"
    tensor = torch.zeros(3)
    torch.save({"x": tensor}, path, _use_new_zipfile_serialization=False)
    key = str(tensor.untyped_storage()._cdata).encode()
    data = path.read_bytes()
    assert data.count(key) == 2  # in the state dict, and in the list of storages
    path.write_bytes(data.replace(key, key[::-1], 1))
    with pytest.raises(InputError, match=r"old.pth cannot be read as a state dict of tensors"):
        read_file(path)


@pytest.fixture
def run(classification_run, tmp_path):
    return shutil.copytree(classification_run, tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "null",
        "[" * 10**5,
        '{"format": 1, "method": {"name": ["x"]}}',
        '{"format": 1, "method": 3}',
        '{"format": 1, "method": {"name": "x"}}',
    ],
)
def test_a_config_that_is_none(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json"):
        load_run(run)


def test_settings_that_a_config_lacks_have_their_defaults(run):
    config = json.loads((run / "config.json").read_text())
    del config["validate_every_epochs"], config["data"]["cache"], config["model"]["dropout"]
    (run / "config.json").write_text(json.dumps(config))
    assert load_run(run).run.config.data.cache == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("init.json", text) for text in ("{", "{}", "[]", '{"from": 1, "fingerprint": 2}')],
        *[("environment.json", text) for text in ("{", "{}", "3")],
    ],
)
def test_a_report_that_is_none(run, make_config, pretext_run, name, text):
    (run / name).write_text(text)
    config = make_config("classification")
    config.init_from = str(pretext_run)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        train(config, run)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{", b"[1]", b'{"kind": "train"}', b"\x00" * 9])
def test_metrics_with_a_damaged_row_lose_none(run, damage):
    path = run / "metrics.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([rows[0], damage + b"\n", *rows[1:]]))
    before = path.read_bytes()
    for read in (read_metrics, lambda folder: MetricsLog(folder, step=14)):
        with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is damaged"):
            read(run)
    assert path.read_bytes() == before
    path.write_bytes(b"".join(rows) + damage)  # a row that was cut short by a kill
    assert len(read_metrics(run)) == len(rows)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metadata/metadata", "{}", "its metadata have no format"),
        ("metadata/metadata", "[1, 2]", "its metadata have no format"),
        ("metadata/metadata", "{", "a file of its metadata is cut short or altered"),
        ("metadata/metadata", '{"format": 1, "step": 7}', "its metadata are of step 7, not 14"),
        ("metadata/metadata", '{"format": 1, "step": 14, "class_names": [1]}', "no class_names"),
        ("params/_METADATA", "{", "a file of its params is cut short or altered"),
        ("params/manifest.ocdbt", "", "a file of its params is cut short or altered"),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_checkpoint_with_a_damaged_file_is_named(run, name, text, said, signed, quick):
    path = run / "checkpoints/latest/14" / name
    path.write_text(text)
    if signed:
        checksums.write(run / "checkpoints/latest/14")
    said = said if signed else f"{name} has another checksum than when it was written"
    with pytest.raises(InputError, match=rf"checkpoints/latest/14 is damaged: .*{said}"):
        load_run(run, "latest")


@pytest.fixture
def quick(monkeypatch):
    """What is damaged is not read again, and who waits for a named pipe fails."""
    monkeypatch.setattr(saved_checkpoints, "_PAUSES", ())

    def fail(number, frame):
        pytest.fail("not done after 20 seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def restore(run):
    """Reads all that the best checkpoint has."""
    checkpoints = SavedCheckpoints(run)
    step = checkpoints.step("best")
    return checkpoints.restore_as_saved("best", step, ("params", "stats", "teacher", "memory"))


def test_every_flipped_bit_is_noticed(run, quick):
    (folder,) = (run / "checkpoints/best").iterdir()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 15
    rng = random.Random(0)
    for index in range(60):
        path = files[index] if index < len(files) else rng.choice(files)
        before = path.read_bytes()
        damaged = bytearray(before)
        damaged[rng.randrange(len(before))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match=rf"{folder} is damaged: ") as found:
            restore(run)
        assert "\n" not in str(found.value)
        path.write_bytes(before)
    assert restore(run)["params"]


def test_checksums_are_those_of_coreutils_and_of_all_files(run):
    for folder in (run / "checkpoints").glob("*/*"):
        check = ["sha256sum", "--check", "--strict", "checksums.sha256"]
        done = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=True)
        names = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert names == files - {"checksums.sha256"}


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: None, "checksums.sha256 is missing"),
        (lambda lines: "", "was not there when it was written"),
        (lambda lines: "".join(lines)[:-1], "checksums.sha256 is cut short or altered"),
        (lambda lines: "".join(lines).upper(), "checksums.sha256 is cut short or altered"),
        (lambda lines: "[1, null]\n\0\udcff", "checksums.sha256 is cut short or altered"),
        (lambda lines: f"{DIGEST}  params/{'a' * 1000}\n", "checksums.sha256 is cut short"),
        (lambda lines: "\n" * 2**26, "checksums.sha256 is cut short or altered"),
        (lambda lines: "".join([*lines, f"{DIGEST}  params/../../../pipe\n"]), "pipe is missing"),
        (lambda lines: "".join([*lines, f"{DIGEST}  ../pipe\n"]), None),
        (lambda lines: "".join([*lines, f"{DIGEST}  /proc/self/mem\n"]), None),
    ],
)
def test_checksums_that_are_none(run, quick, change, said):
    """Names of files outside of the checkpoint are not opened."""
    (path,) = run.glob("checkpoints/best/*/checksums.sha256")
    os.mkfifo(path.parent.parent / "pipe")
    text = change(path.read_text().splitlines(keepends=True))
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    if said is None:
        assert restore(run)["params"]
        return
    with pytest.raises(DamagedCheckpoint, match=rf"best/\d+ is damaged: .*{said}"):
        restore(run)


@pytest.mark.parametrize("name", ["checksums.sha256", "commit_success.txt", "params/d", "params/x"])
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.parent),
        lambda path: path.symlink_to("nothing"),
    ],
)
def test_only_regular_files_are_opened(run, quick, make, name):
    (folder,) = (run / "checkpoints/best").iterdir()
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(DamagedCheckpoint, match=f"is damaged: '{path.name}' is no regular file"):
        restore(run)


def test_a_file_that_was_added_is_named(run, quick):
    (folder,) = (run / "checkpoints/best").iterdir()
    (folder / "params/d/two\nlines").touch()
    said = r"'params/d/two\\nlines' was not there when it was written"
    with pytest.raises(DamagedCheckpoint, match=said):
        restore(run)


def test_a_pipe_in_the_checkpoint_before_the_latest(run, make_config, pretext_run, quick):
    """Orbax would open it."""
    config = make_config("classification")
    config.init_from, config.epochs = str(pretext_run), 3
    path = run / "checkpoints/latest/7/_CHECKPOINT_METADATA"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"latest/7 is damaged: '_CHECK.* is no regular file"):
        train(config, run)


DATA = {"next_example": 448, "interval": {}, "epoch_sums": {"loss": [2.5, 448.0]}}
ROW = {"kind": "train", "step": 14, "loss": 2.5}


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"interval": {"per_class": [[1.0, float("nan")], [3.0, 0.0]]}},
        {"unwritten": [ROW]},
        {"unwritten": []},
    ],
)
def test_data_of_a_checkpoint_that_a_run_can_have_saved(good):
    checkpoint_data.check({**DATA, **good}, step=14, batch_size=32)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        *[
            ({"next_example": value}, r"next_example of data/metadata must be 448 \(step 14 ×")
            for value in ("448", None, 1e30, 448.0, -32, 480, 0, True, [448])
        ],
        *[
            ({"epoch_sums": value}, r"epoch_sums of data/metadata must hold \[Σ values, Σ")
            for value in (
                None, [], "text", {"loss": 1.0}, {"loss": [1.0]}, {"loss": [1.0, "a"]},
                {"loss": [1.0, -1.0]}, {"loss": [1.0, float("inf")]}, {"loss": [1.0, [1.0]]},
                {"loss": [[1.0], [1.0, 1.0]]}, {"loss": [10**400, 1.0]}, {"loss": [None, None]},
            )
        ],
        ({"interval": 3}, r"interval of data/metadata must hold"),
        *[
            ({"unwritten": value}, "unwritten of data/metadata must be rows .* to step 14, not")
            for value in (
                None, {}, [3], [{}], [{**ROW, "kind": "x"}], [{**ROW, "step": 15}],
                [{**ROW, "step": -1}], [{**ROW, "step": 1.0}], [{**ROW, "loss": "a"}],
            )
        ],
        ({"more": 1}, "data/metadata has an unknown key 'more'"),
    ],
)  # fmt: skip
def test_data_of_a_checkpoint_that_no_run_can_have_saved(bad, said):
    with pytest.raises(Unreadable, match=said) as found:
        checkpoint_data.check({**DATA, **bad}, step=14, batch_size=32)
    assert len(str(found.value)) < 200


@pytest.mark.parametrize("data", [None, [], "text", 1, {}])
def test_data_of_a_checkpoint_that_is_none(data):
    with pytest.raises(Unreadable, match=r"data/metadata must"):
        checkpoint_data.check(data, step=14, batch_size=32)


@pytest.mark.parametrize(
    "sums", [{"loss": [[1.0, 2.0], [1.0, 1.0]]}, {"other": [1.0, 1.0]}, {"loss": [1.0, 1.0]}]
)
def test_sums_of_a_checkpoint_that_are_of_other_metrics(run, make_config, pretext_run, sums):
    config = make_config("classification")
    config.init_from, config.epochs = str(pretext_run), 3
    folder = run / "checkpoints/latest/14"
    path = folder / "data/metadata"
    path.write_text(json.dumps({**json.loads(path.read_text()), "interval": sums}))
    checksums.write(folder)
    with pytest.raises(InputError, match=r"step 14 is damaged: interval of data/metadata must"):
        train(config, run)


def test_damaged_files_are_read_or_refused(tmp_path):
    for extra in ("torch", "safetensors", "pyarrow"):
        pytest.importorskip(extra, reason="needs the extras `torch` and `parquet`")
    fuzz = [sys.executable, "-m", "tests.fuzz", "--inputs=8", "--seed=2", f"--keep={tmp_path}"]
    fuzz += ["--patience=120"]  # other tests run beside it
    names = (
        "annotation lists",
        "images",
        "sources",
        "prepared data sets",
        "weights",
        "run folders",
    )
    fuzz += [f"--target={name}" for name in names]
    done = subprocess.run(fuzz, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split()[:5] == ["target", "inputs", "refused", "read", "broke"]
    assert len(rows) == len(names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("open('../../new', 'w')", "outside of its folders: open"),
        ("os.mkdir('../../new')", "outside of its folders: os.mkdir"),
        ("subprocess.run(['true'])", "started another program: subprocess.Popen"),
        ("os.system('true')", "started another program: os.system"),
        ("time.sleep(60)", "not done after 5 seconds"),
        ("bytearray(3 * 2**30)", "GiB of memory"),
        ("print('\\x1b[2J')", "printed"),
        ("os._exit(3)", "ended with 3"),
        ("threading.Thread(target=lambda: 1 / 0).run()", ""),  # becomes an error of one line
        ("thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()",
         "a traceback"),
        ("open('inside', 'w')", ""),
    ],
)  # fmt: skip
def test_the_fuzzer_notices_what_a_command_must_not_do(tmp_path, line, fault):
    """A plug-in is code of the user's own, so it can do all of it."""
    world = tmp_path / "world"
    for name in ("home", "tmp", "cwd"):
        (world / name).mkdir(parents=True)
    (world / "cwd/own.py").write_text(f"import os, subprocess, threading, time\n{line}\n")
    script = f"""
import pathlib
from tests.fuzz import command
arguments = ["preview", "--config=nothing.py", "--out=x.png", "--plugin=own"]
seconds = {5 if "sleep" in line else 60}  # a busy machine takes seconds for 3 GiB
print(command.run(arguments, pathlib.Path({str(world)!r}), seconds=seconds).fault())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    said = done.stdout.strip()
    assert fault in said
    assert bool(said) == bool(fault)
