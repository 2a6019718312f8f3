"""Files that once broke a reader, and some hundred new ones; `python -m tests.fuzz` tries more."""

from __future__ import annotations

import json
import shutil

import pytest

from ssljax import load_run
from ssljax.models.torch.layouts import read_file
from ssljax.runs.metrics_log import MetricsLog, read_metrics
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests.conftest import REPOSITORY
from tests.fuzz import __main__ as fuzzer

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
    ["{}", "[1]", "null", '{"format": 1, "method": 3}', '{"format": 1, "method": {"name": "x"}}'],
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
    ("name", "text"),
    [
        ("metadata/metadata", "{}"),
        ("metadata/metadata", "[1, 2]"),
        ("metadata/metadata", '{"format": 1, "class_names": [1]}'),
        ("params/_METADATA", "{"),
        ("params/manifest.ocdbt", ""),
    ],
)
def test_a_checkpoint_with_a_damaged_file_is_named(run, name, text):
    (path,) = (run / "checkpoints" / "best").glob(f"*/{name}")
    path.write_text(text)
    with pytest.raises(InputError, match=r"checkpoints/best.* is damaged"):
        load_run(run)


@pytest.mark.parametrize(
    ("target", "inputs"),
    [("annotation lists", 300), ("images", 500), ("weights", 200), ("run folders", 5),
     ("resumed runs", 5)],
)  # fmt: skip
def test_damaged_files_are_read_or_refused(target, inputs, tmp_path):
    if target == "weights":
        pytest.importorskip("torch", reason="needs the extra `torch`")
        pytest.importorskip("safetensors", reason="needs the extra `torch`")
    counts = fuzzer.fuzz(target, seed=2, keep=tmp_path, inputs=inputs)
    assert counts["inputs"] == inputs
    assert not counts["broke"], [path.read_text() for path in tmp_path.glob("*.txt")]
