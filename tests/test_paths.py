"""Folders may have any name: no library may take one for a pattern or a template."""

from __future__ import annotations

import errno
import json
import pathlib
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssljax.data.records import open_records
from ssljax.data.sets import fashion_mnist_10k
from ssljax.files import storage
from ssljax.runs import checksums
from ssljax.runs.checkpoint_files import Unreadable, read_back
from ssljax.runs.checkpoints import Checkpoints
from ssljax.runs.saved_checkpoints import SavedCheckpoints
from ssljax.settings.errors import InputError, TrainingFailed
from tests import commands
from tests.conftest import REPOSITORY
from tests.deep_fashion_folder import write_folder

NAMES = [
    "run[1]", "[!a]", "a*b?", "{x}", "two words ", "it's \"quoted\"", "日本語 é", "100%20#",
    "$HOME", "-x", "a@2", "back\\slash", "\udcff",
]  # fmt: skip
STUDY = ("classification", "pretexts.puzzle")
ALL = 'it\'s "[1]" *{x}\\ 日本'


@pytest.fixture(scope="module")
def prepared(data_dir) -> str:
    fashion_mnist_10k.prepare(data_dir)
    return data_dir


def save(folder, step=1, kind="latest"):
    checkpoints = Checkpoints(folder)
    parts = {"params": {"head": {"bias": jnp.arange(3.0)}, "backbone": {"k": jnp.ones((40, 40))}}}
    checkpoints.save(kind, step, parts, {"class_names": []}, {})
    checkpoints.wait()
    checkpoints.close()


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_can_be_read_in_a_folder_of_any_name(tmp_path, name):
    for step in (1, 2, 3):
        save(tmp_path / name, step)
    saved = SavedCheckpoints(tmp_path / name)
    assert saved.find("latest") == ("latest", 3)
    with pytest.raises(InputError, match=r"latest \(step 2\), latest \(step 3\)"):
        saved.find("1")
    params = saved.restore_as_saved("latest", 3, ("params",))["params"]
    np.testing.assert_array_equal(params["head"]["bias"], np.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.quick
def test_only_folders_with_the_number_of_a_step_are_checkpoints(tmp_path):
    save(tmp_path, 1)
    names = {"²", "３", "007", "1e3", "+5", "12 ", "x"}
    for name in names:
        (tmp_path / "checkpoints/latest" / name).mkdir()
    assert SavedCheckpoints(tmp_path).find("latest") == ("latest", 1)
    for step in (2, 3):
        save(tmp_path, step)
    assert {path.name for path in (tmp_path / "checkpoints/latest").iterdir()} == names | {"2", "3"}


@pytest.mark.quick
def test_a_checkpoint_without_checksums_is_not_called_saved(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def fail(checkpoint, but=()):
        assert checkpoint.is_dir()
        assert [path.name for path in tmp_path.glob("checkpoints/*/2")] == []
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checksums, "write", fail)
    with pytest.raises(TrainingFailed, match=r"No space left on device; the last good .*latest/1"):
        save(tmp_path, 2)
    monkeypatch.undo()
    save(tmp_path, 3)  # and what was left is removed
    assert sorted(path.name for path in tmp_path.glob("checkpoints/latest/*")) == ["1", "3"]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_data_can_be_read_in_a_folder_of_any_name(prepared, tmp_path, name):
    shutil.copytree(prepared, tmp_path / name, ignore=shutil.ignore_patterns("*.npy"))
    records = open_records("fashion_mnist_10k", "images[:9]", str(tmp_path / name))
    assert len(records.labels()) == len(records) == 9
    assert records[8][0].startswith(b"\x89PNG")


@pytest.mark.quick
def test_what_cannot_be_read_back_is_not_called_saved(tmp_path, monkeypatch):
    """Without a literal path, orbax writes checkpoints without arrays into this folder."""
    save(tmp_path / "run", 1)
    monkeypatch.setattr(storage, "_NOT_LITERAL", re.compile("(?!)"))
    (tmp_path / "run").rename(tmp_path / "run[1]")
    with pytest.raises(TrainingFailed, match=r"cannot be read back; the last good .*latest/1"):
        save(tmp_path / "run[1]", 2)
    assert SavedCheckpoints(tmp_path / "run[1]").find("latest") == ("latest", 1)


@pytest.mark.quick
def test_reading_back_reads_every_array(tmp_path):
    save(tmp_path)
    item = pathlib.Path(tmp_path, "checkpoints/latest/1/params")
    read_back(item)
    largest = max(item.glob("d/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:20])
    with pytest.raises(Unreadable, match="a file of its params is cut short or altered"):
        read_back(item)


def test_a_folder_in_a_bucket_must_not_be_a_pattern():
    with pytest.raises(InputError, match=r"--workdir: gs://bucket/run\[1\]: a folder in a bucket"):
        storage.path("gs://bucket/run[1]", "--workdir")


def test_all_commands_in_a_folder_of_any_name(tmp_path):
    """Its runs, data, images and weights, also relative to it."""
    folder = tmp_path / ALL
    folder.mkdir()
    rng = np.random.default_rng(0)
    image = folder / "[a] *.png"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(image)

    def run(module: str, *arguments: str, cwd=folder) -> str:
        return commands.run(module, *arguments, cwd=cwd).stdout

    config = f"--config={REPOSITORY}/tests/tiny.py:classification"
    settings = ["--config.data.data_dir=tfds", "--config.data.workers=1"]
    run("prepare", "--source=fashion_mnist_10k", "--data_dir=tfds")
    write_folder(folder / "source [x]", images=20)
    assert "deep_fashion" in run("prepare", "--source=source [x]", "--data_dir=tfds")
    run("train", config, "--workdir=run", *settings, "--config.epochs=1")
    run("train", config, f"--workdir={folder}/run", *settings)
    assert "step 14" in run("evaluate", "--workdir=run", "--checkpoint=latest")
    run("train", config, "--workdir=next", *settings, "--config.init_from=run", "--config.epochs=1")
    assert "[a] *.png: " in run("predict", "--workdir=run", image.name)
    run("compile", config)
    data = [f"--config.{group}.data.data_dir={folder}/tfds" for group in STUDY]
    data += [f"--config.{group}.epochs=1" for group in STUDY]
    run("study", "--config=tests/tiny_study.py", f"--workdir={folder}/study", *data, cwd=REPOSITORY)
    assert json.loads((folder / "study/results.json").read_text())["arms"]
    pytest.importorskip("torch", reason="needs the extra `torch`")
    run("weights", "export", "run", "[w].pth")
    assert (folder / "[w].pth").stat().st_size
