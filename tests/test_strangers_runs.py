"""Opening a run or a data set from a stranger runs no code of it and writes only to own folders."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys

import pytest

from ssljax import load_run
from ssljax.data.prepared import open_prepared
from ssljax.data.records import open_records
from ssljax.evaluate import evaluate, save
from ssljax.runs import saved_evaluations
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick

HOSTILE = "open({mark!r}, 'w').close()\n"


@pytest.fixture
def strangers_run(classification_run, data_dir, tmp_path) -> pathlib.Path:
    """A run whose config names a data folder inside the run folder."""
    open_records("fashion_mnist_10k", "images", data_dir)
    run = tmp_path / "run"
    shutil.copytree(classification_run, run)
    shutil.copytree(data_dir, run / "data")
    name_data_dir(run, run / "data")
    return run


def name_data_dir(run: pathlib.Path, folder: pathlib.Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["data"]["data_dir"] = str(folder)
    (run / "config.json").write_text(json.dumps(config))


def snapshot(folder: pathlib.Path) -> dict[pathlib.Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def evaluate_in(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a working folder that Python searches for modules."""
    return subprocess.run(
        [sys.executable, "-m", "ssljax.evaluate", *arguments],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "TFDS_DATA_DIR": str(folder.parent / "own")},
    )  # fmt: skip


@pytest.mark.seconds
@pytest.mark.parametrize("place", ["another feature", "the image", "all of them", "the builder"])
def test_a_class_that_a_data_set_names_is_not_imported(strangers_run, place):
    mark = strangers_run / "code_was_run"
    (strangers_run / "hostile.py").write_text(HOSTILE.format(mark=str(mark)))
    [file] = strangers_run.glob("data/**/features.json")
    features = json.loads(file.read_text())
    inner = features["featuresDict"]["features"]
    name = "hostile.Feature"
    if place == "another feature":
        inner["more"] = {"pythonClassName": name, "text": {}}
    elif place == "the image":
        inner["image"]["pythonClassName"] = name
    elif place == "all of them":
        features = {"type": name, "content": {}, "pythonClassName": name}
    else:
        info = file.with_name("dataset_info.json")
        info.write_text(json.dumps({**json.loads(info.read_text()), "moduleName": "hostile"}))
    file.write_text(json.dumps(features))
    done = evaluate_in(strangers_run, "--workdir=.")
    readable = place in ("another feature", "the builder")
    assert done.returncode == (0 if readable else 2), done.stderr
    assert readable or len(done.stderr.splitlines()) == 1, done.stderr
    assert not mark.exists()


def test_no_builder_is_imported_for_a_data_set_that_tfds_knows(shared_tfds):
    code = (
        "import sys; from ssljax.data.records import open_records\n"
        f"open_records('fashion_mnist', 'test', {shared_tfds!r})\n"
        "assert 'tensorflow_datasets.image_classification.mnist' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.seconds
def test_evaluating_writes_nothing_where_the_config_says(strangers_run, tmp_path, monkeypatch):
    for labels in strangers_run.glob("data/**/*.npy"):
        labels.unlink()
    before = snapshot(strangers_run / "data")
    monkeypatch.setattr("ssljax.data.prepared.default_folder", lambda: str(tmp_path / "own"))
    evaluate(strangers_run)
    run = load_run(strangers_run).run
    run.records("images").labels()
    assert snapshot(strangers_run / "data") == before
    assert not (tmp_path / "own").exists()


@pytest.mark.seconds
def test_the_embedded_data_set_is_prepared_in_the_users_own_folder(
    strangers_run, tmp_path, monkeypatch
):
    shutil.rmtree(strangers_run / "data")
    name_data_dir(strangers_run, tmp_path / "etc")
    monkeypatch.setattr("ssljax.data.prepared.default_folder", lambda: str(tmp_path / "own"))
    result = evaluate(strangers_run)
    assert not (tmp_path / "etc").exists()
    assert (tmp_path / "own" / "fashion_mnist_10k").is_dir()
    named = evaluate(strangers_run, data_dir=str(tmp_path / "named"))
    assert (tmp_path / "named" / "fashion_mnist_10k").is_dir()
    assert named["metrics"] == result["metrics"]


def test_results_go_through_no_link(classification_run, tmp_path, monkeypatch):
    workdir = shutil.copytree(classification_run, tmp_path / "run")
    shutil.rmtree(workdir / "evaluation", ignore_errors=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = {"dataset": "fashion_mnist_10k", "split": "images[300:433]", "step": 14}
    (workdir / "evaluation").symlink_to(elsewhere)
    with pytest.raises(InputError, match="evaluation is a link"):
        save(result, workdir)
    (workdir / "evaluation").unlink()
    (workdir / "evaluation").mkdir()
    path = saved_evaluations.path(workdir, result["split"], result["step"])
    (elsewhere / "file").write_text("kept")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 2 * count)
    scratch = path.with_name(".00000000.tmp")
    scratch.symlink_to(elsewhere / "file")
    with pytest.raises(InputError, match="cannot write .*: File exists"):
        save(result, workdir)
    assert (elsewhere / "file").read_text() == "kept"
    scratch.unlink()
    path.symlink_to(elsewhere / "file")
    save(result, workdir)
    assert (elsewhere / "file").read_text() == "kept"
    assert json.loads(path.read_text()) == result


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("features.json", "[1", "cannot be read"),
        ("features.json", '{"type": "a.B", "content": {}}', "cannot be read"),
        ("features.json", "{}", "data.image_key: .* has no Image feature 'image', but \\[\\]"),
        ("dataset_info.json", '{"splits": 3}', "cannot be read"),
        ("dataset_info.json", None, "cannot be read"),
        ("metadata.json", "{", "cannot be read"),
        ("label.labels.txt", "one\ntwo\n", "number of names do not match"),
    ],
)
def test_damaged_descriptions_are_named(strangers_run, file, change, said):
    path = next(strangers_run.glob("data/**/features.json")).with_name(file)
    if change is None:
        path.unlink()
    else:
        path.write_text(change)
    with pytest.raises(InputError, match=said):
        open_records("fashion_mnist_10k", "images", str(strangers_run / "data"))


def test_files_of_a_data_set_are_in_its_folder(strangers_run):
    info = next(strangers_run.glob("data/**/dataset_info.json"))
    text = info.read_text()
    assert "{DATASET}-{SPLIT}" in text
    info.write_text(text.replace("{DATASET}-{SPLIT}", "../../{DATASET}-{SPLIT}"))
    with pytest.raises(InputError, match=r"split images is in another folder: .*/\.\./\.\./fash"):
        open_records("fashion_mnist_10k", "images", str(strangers_run / "data"))


def test_configurations_and_versions_are_found(strangers_run):
    data = strangers_run / "data"
    version = data / "fashion_mnist_10k" / "1.0.0"
    for place in ("set/one/1.0.0", "set/one/2.0.0", "set/two/1.1.0"):
        shutil.copytree(version, data / place)
    (data / "set/one/3.0.0").mkdir()  # with nothing in it
    for dataset, place in (
        ("set/one", "set/one/2.0.0"), ("set/one:1.0.0", "set/one/1.0.0"),
        ("set/one:1.*.*", "set/one/1.0.0"), ("set/two", "set/two/1.1.0"),
        ("fashion_mnist_10k", "fashion_mnist_10k/1.0.0"),
    ):  # fmt: skip
        assert open_prepared(dataset, str(data)).folder == data / place
    for missing in ("set", "set/one:4.0.0", "set/three", "set/one/batch_size=3", "kaggle:set/one"):
        with pytest.raises(InputError, match=f"no data set '{missing}' is prepared in"):
            open_prepared(missing, str(data))
    (data / "set" / ".config").mkdir()
    (data / "set/.config/metadata.json").write_text('{"default_config_name": "two"}')
    assert open_prepared("set", str(data)).folder == data / "set/two/1.1.0"
