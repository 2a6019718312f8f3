"""Features of images: the command, the library and evaluation give the same bits."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import ssljax
from ssljax.data.given_images import find
from ssljax.methods.classification import Classification
from ssljax.runs import feature_files
from ssljax.settings.errors import InputError
from ssljax.training.validation import Evaluator
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

UNDIVIDED = {name: value for name, value in ENVIRONMENT.items() if name != "JAX_NUM_CPU_DEVICES"}

SPLIT = "images[300:433]"


@pytest.fixture(scope="module")
def folder(classification_run, tmp_path_factory):
    """Real images, as PNG and JPEG, in nested folders; more than a batch of them."""
    folder = tmp_path_factory.mktemp("images")
    model = ssljax.load_run(classification_run)
    images = model.run.images(SPLIT)
    for record, (data, _) in enumerate(images.read(range(41))):
        path = folder / f"class {record % 3}" / f"{record}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    Image.open(path).convert("RGB").resize((90, 70)).save(folder / "photo.jpg")
    (folder / ".hidden.png").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def written(classification_run, folder, tmp_path_factory):
    """What this process computes."""
    file = tmp_path_factory.mktemp("features") / "f.npz"
    assert ssljax.write_features(classification_run, file, images=str(folder)) == (42, 256)
    with np.load(file) as arrays:
        return dict(arrays)


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "ssljax.features", *arguments],
        cwd=REPOSITORY, env=UNDIVIDED, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


LIBRARY = """
import sys
import jax, numpy as np
import ssljax
workdir, file = sys.argv[1:]
expected = np.load(file)
model = ssljax.load_run(workdir)
assert jax.device_count() == 1
order = np.random.default_rng(0).permutation(42)
assert np.array_equal(model.features(list(map(str, expected["files"]))), expected["features"])
for some in (order, order[:5], [7]):  # the place in a batch may change the last bit
    found = model.features([str(expected["files"][index]) for index in some])
    np.testing.assert_allclose(found, expected["features"][some], rtol=1e-5, atol=1e-7)
print("equal")
"""


@pytest.mark.parametrize("devices", [1, 2])
def test_the_command_and_the_library_agree_to_the_bit(
    classification_run, folder, tmp_path, devices
):
    """The command divides the CPU into as many devices as the run had; this process does not."""
    workdir = tmp_path / "run"
    shutil.copytree(classification_run, workdir)
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**config, "cpu_devices": devices}))
    out = tmp_path / "f.npz"
    run(f"--workdir={workdir}", f"--images={folder}", f"--out={out}")
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY, workdir, out],
        cwd=REPOSITORY, env=UNDIVIDED, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "equal\n", done.stderr


def test_the_features_of_an_image_do_not_depend_on_the_others(classification_run, folder, written):
    files = find([str(folder)])
    assert written["files"].tolist() == files
    assert written["features"].dtype == np.float32
    assert written["labels"].dtype == np.int32
    assert (written["labels"] == -1).all()
    model = ssljax.load_run(classification_run)
    order = np.random.default_rng(0).permutation(42)
    every = model.features(files)
    assert np.array_equal(every, written["features"])
    for some in (order, order[:5], [7]):
        found = model.features([files[index] for index in some])
        # The place in a batch may change the last bit.
        np.testing.assert_allclose(found, every[some], rtol=1e-5, atol=1e-7)
    streamed = model.features(pathlib.Path(file).read_bytes() for file in files)
    assert np.array_equal(streamed, every)
    assert np.array_equal(
        model.features(pathlib.Path(files[3]), "conv5").reshape(-1),
        ssljax.features(classification_run, images=files[3], layer="conv5").features[0],
    )


def test_a_split_has_labels_and_the_features_of_its_images(classification_run, folder, written):
    found = ssljax.features(classification_run, SPLIT)
    assert found.features.shape == (133, 256)
    assert set(found.labels) == set(range(10))
    assert list(found.files) == [""] * 133  # of the embedded data set
    numbers = [int(pathlib.Path(file).stem) for file in written["files"][:-1]]
    expected = written["features"][:-1]
    np.testing.assert_allclose(found.features[numbers], expected, rtol=1e-5, atol=1e-7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneAlone(Classification):
    """Its outputs are the features, so that evaluation shows them."""

    def outputs(self, net, inputs):
        return net.backbone(inputs)

    def loss(self, outputs, context):
        return outputs.mean(axis=-1)

    def metrics(self, outputs, context):
        return {}


def test_evaluation_computes_the_same_bits(classification_run):
    model = ssljax.load_run(classification_run)
    method = BackboneAlone(data=model.run.method.data)
    alone = dataclasses.replace(model.run, method=method)
    images = alone.images(SPLIT)
    rows = [
        np.asarray(outputs)[batch["mask"]]
        for batch, _, outputs in Evaluator(alone, images).batches(model.parts)
    ]
    assert np.array_equal(np.concatenate(rows), ssljax.features(classification_run, SPLIT).features)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_every_kind_of_file_holds_the_same(classification_run, folder, written, tmp_path, suffix):
    out = tmp_path / f"f{suffix}"
    assert ssljax.write_features(classification_run, out, images=str(folder)) == (42, 256)
    if suffix == ".npy":
        found = [np.load(tmp_path / name) for name in ("f.npy", "f.labels.npy", "f.files.npy")]
    else:
        table = pyarrow.parquet.read_table(out)
        found = [np.stack(table["features"].to_numpy()), *map(table.column, ("labels", "files"))]
    for name, values in zip(("features", "labels", "files"), found, strict=True):
        assert np.array_equal(values, written[name]), name


def test_many_rows_are_appended(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.random((9000, 3), np.float32)
    names = [f"{'é' * (index % 5)}{index}.png" for index in range(9000)]
    for suffix in (".npz", ".parquet"):
        path = feature_files.check(tmp_path / f"f{suffix}")
        with feature_files.new_file(path) as file:
            for start in range(0, 9000, 70):
                part = slice(start, start + 70)
                file.add(rows[part], np.arange(9000)[part], names[part])
    found = np.load(tmp_path / "f.npz")
    assert np.array_equal(found["features"], rows)
    assert np.array_equal(found["labels"], np.arange(9000))
    assert found["files"].tolist() == names
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    assert np.array_equal(np.stack(table["features"].to_numpy()), rows)
    assert table["files"].to_pylist() == names


def test_bad_images_end_the_command_or_are_left_out(classification_run, folder, tmp_path):
    bad = tmp_path / "images"
    bad.mkdir()
    (bad / "a.png").write_bytes((folder / "class 0/0.png").read_bytes())
    (bad / "b.png").write_bytes(b"no image")
    out = tmp_path / "f.npz"
    arguments = (f"--workdir={classification_run}", f"--images={bad}", f"--out={out}")
    (tmp_path / "incomplete.f.npz").mkdir()  # of a process that was killed
    assert "b.png cannot be read as an image" in run(*arguments, code=2).stderr
    assert {path.name for path in tmp_path.iterdir()} == {"images"}
    assert "left out: " in run(*arguments, "--skip_bad_images").stderr
    assert [pathlib.Path(name).name for name in np.load(out)["files"]] == ["a.png"]
    (bad / "a.png").unlink()
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        ssljax.features(classification_run, images=bad, skip_bad_images=True)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({}, "give either --split, of a data set, or --images"),
        ({"split": SPLIT, "images": "x"}, "give either --split"),
        ({"images": "x", "dataset": "y"}, "--dataset and --data_dir belong to --split"),
        ({"images": "no_such_file.png"}, "no_such_file.png: No such file"),
        ({"split": SPLIT, "layer": "fc8"}, "no layer 'fc8'; did you mean"),
        ({"split": "train"}, "split 'train' of fashion_mnist_10k"),
        ({"split": SPLIT, "out": "f.csv"}, "--out: f.csv must end in .npz, .npy, .parquet"),
        ({"split": SPLIT, "out": "no/f.npz"}, "--out: there is no folder no"),
        ({"split": SPLIT, "out": "README.md/f.npz"}, "--out: there is no folder README.md"),
    ],
)
def test_mistakes_are_named(classification_run, choices, said):
    function = ssljax.features
    if "out" in choices:
        function = ssljax.write_features
    with pytest.raises(InputError, match=said):
        function(classification_run, **choices)


def test_a_file_that_exists_is_kept(classification_run, tmp_path):
    (tmp_path / "f.labels.npy").write_text("mine")
    with pytest.raises(InputError, match=r"f.labels.npy exists already; name a new file"):
        ssljax.write_features(classification_run, tmp_path / "f.npy", split=SPLIT)
    assert (tmp_path / "f.labels.npy").read_text() == "mine"


@pytest.mark.quick
def test_importing_the_library_leaves_the_process_alone():
    code = """
import logging, os, signal, sys, warnings
def signals():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
def state():
    return dict(os.environ), signals(), logging.root.level, logging.root.handlers, warnings.filters
before = state()
import ssljax
assert state() == before
assert "jax" not in sys.modules and "numpy" not in sys.modules
functions = [getattr(ssljax, name) for name in ssljax.__all__]
import ssljax.train, ssljax.features
assert callable(ssljax.train) and all(map(callable, functions))
assert signals() == before[1]
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.quick
def test_a_config_is_loaded_with_overrides():
    config = ssljax.load_config(
        "tests/tiny.py:jigsaw", epochs=5, model__width=0.125, **{"data.mean": (0.4, 0.4, 0.4)}
    )
    assert (config.epochs, config.model.width, config.data.mean) == (5, 0.125, (0.4, 0.4, 0.4))
    with pytest.raises(InputError, match="unknown key epoch: did you mean 'epochs'"):
        ssljax.load_config("tests/tiny.py:jigsaw", epoch=5)
