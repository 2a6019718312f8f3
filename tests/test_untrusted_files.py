"""Pipes, devices and garbage in the place of files, and settings that no machine can hold."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal

import pytest
from ml_collections import ConfigDict

from ssljax import load_run, prepare
from ssljax.data import pipeline
from ssljax.data.decoder import Decoder
from ssljax.data.given_images import read_square
from ssljax.data.image_source import ImageSource
from ssljax.data.records import open_records
from ssljax.data.sets.deep_fashion.lists import read_listing
from ssljax.files import untrusted
from ssljax.methods import make_method
from ssljax.methods.method import DataSpec
from ssljax.runs.saved_evaluations import read_all
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import labelled_set, sources
from tests.deep_fashion_folder import write_folder

pytestmark = pytest.mark.quick

PIPE = "it is a named pipe; expected a regular file"
METHOD = make_method({"name": "jigsaw", "grid": 2, "tile": 16, "gap": 2}, DataSpec(32))


@pytest.fixture(autouse=True)
def nothing_waits():
    """Reading a pipe would wait forever."""

    def late(number, frame):
        raise AssertionError("it did not come to an end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put_pipe(path: pathlib.Path) -> pathlib.Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl", ".lock"])
def test_pipes_in_a_run_folder(classification_run, make_config, pretext_run, tmp_path, name):
    run = shutil.copytree(classification_run, tmp_path / "run")
    put_pipe(run / name)
    config = make_config("classification")
    config.init_from = str(pretext_run)
    with pytest.raises(InputError, match=rf"{PIPE}|cannot write .*{PIPE}"):
        train(config, run)


def test_a_device_in_the_place_of_a_config(classification_run, tmp_path):
    run = shutil.copytree(classification_run, tmp_path / "run")
    (run / "config.json").unlink()
    (run / "config.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="config.json cannot be read: it is a device; expected a"):
        load_run(run)


def test_pipes_among_results_and_images(tmp_path):
    (tmp_path / "evaluation").mkdir()
    put_pipe(tmp_path / "evaluation/a.json")
    with pytest.raises(InputError, match=rf"a.json cannot be read: {PIPE}"):
        read_all(tmp_path)
    with pytest.raises(InputError, match=PIPE):
        read_square(put_pipe(tmp_path / "image.png"), Decoder(8))
    with pytest.raises(OSError, match="it is a device; expected a regular file"):
        untrusted.read_bytes(pathlib.Path("/dev/zero"), 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(OSError, match="it has 11 bytes; at most 10 are expected"):
        untrusted.read_bytes(tmp_path / "large", 10)


@pytest.mark.parametrize(
    "name", ["dataset_info.json", "features.json", "metadata.json", "label.labels.txt"]
)
def test_pipes_in_the_description_of_a_data_set(tmp_path, name):
    labelled_set.write(tmp_path, "numbers", [0, 1])
    put_pipe(tmp_path / "numbers/1.0.0" / name)
    with pytest.raises(InputError, match=rf"numbers.* cannot be read: .*{PIPE}"):
        open_records("numbers", "images", str(tmp_path))


def test_pipes_in_the_place_of_records_and_kept_labels(tmp_path):
    labelled_set.write(tmp_path, "numbers", [0, 1])
    records = open_records("numbers", "images", str(tmp_path))
    assert records.labels().tolist() == [0, 1]
    [kept] = (tmp_path / "numbers/1.0.0").glob("*.label.npy")
    put_pipe(kept)
    assert open_records("numbers", "images", str(tmp_path)).labels().tolist() == [0, 1]
    put_pipe(next((tmp_path / "numbers/1.0.0").glob("*-of-00001")))
    with pytest.raises(InputError, match=rf"record 0 cannot be read: .*{PIPE}"):
        open_records("numbers", "images", str(tmp_path)).read([0])


@pytest.mark.parametrize("shape", ["(35184372088832,)", f"({2**70},)", "((((", "", "(2,"])
def test_kept_labels_with_a_damaged_header(tmp_path, shape):
    labelled_set.write(tmp_path, "numbers", [0, 1])
    [file] = (tmp_path / "numbers/1.0.0").glob("*-of-00001")
    kept = file.with_name(f"{file.name}.label.npy")
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode()
    kept.write_bytes(b"\x93NUMPY\x01\x00" + bytes([len(header) + 1, 0]) + header + b"\n")
    assert open_records("numbers", "images", str(tmp_path)).labels().tolist() == [0, 1]


@pytest.mark.parametrize("name", ["csv", "parquet with bytes", "tar with json", "split folders"])
def test_pipes_in_a_source(tmp_path, name):
    if "parquet" in name:
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    write, given = sources.SOURCES[name][0], tmp_path / "source"
    write(given, sources.make_images(("train", "test"), each=2))
    files = [path for path in sorted(given.rglob("*")) if path.is_file()]
    tables = [path for path in files if path.suffix in (".csv", ".parquet", ".tar")]
    images = [path for path in files if path.parent.name in sources.CLASSES]
    file = put_pipe((tables or images)[0])
    source = file if file.suffix == ".csv" else given
    with pytest.raises(InputError, match="named pipe|no regular file"):
        prepare(str(source), "piped", str(tmp_path / "data"))


def test_a_pipe_in_the_place_of_an_annotation_list(tmp_path):
    write_folder(tmp_path, images=4)
    put_pipe(next(tmp_path.rglob("list_eval_partition.txt")))
    with pytest.raises(InputError, match=PIPE):
        read_listing(tmp_path)


def test_a_link_to_itself_in_a_source(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/x.parquet").symlink_to("x.parquet")
    with pytest.raises(InputError, match=r"x.parquet cannot be read as parquet"):
        prepare(str(tmp_path / "source"), "loop", str(tmp_path / "data"))


def make_huge(path: pathlib.Path) -> pathlib.Path:
    """Three GiB that take no place on the disk."""
    os.truncate(path, 3 * 2**30)
    return path


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "list_category_img.txt"])
def test_a_huge_annotation_list(tmp_path, name):
    write_folder(tmp_path, images=4)
    make_huge(next(tmp_path.rglob(name)))
    with pytest.raises(InputError, match=rf"{name} cannot be read: it has 3,221,225,472 bytes; at"):
        read_listing(tmp_path)


def test_a_table_with_a_huge_line(tmp_path):
    sources.SOURCES["csv"][0](tmp_path, sources.make_images(("train", "test"), each=1))
    path = make_huge(tmp_path / "list.csv")
    with pytest.raises(
        InputError, match=r"list.csv, line \d+: the line has more than 1,048,576 ch"
    ):
        prepare(str(path), "huge", str(tmp_path / "data"))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"list.csv, line 1: the line has more than 1,048,576 cha"):
        prepare(str(make_huge(path)), "huge", str(tmp_path / "data"))


def test_a_huge_image(tmp_path):
    sources.SOURCES["split folders"][0](tmp_path / "source", sources.make_images(each=1))
    path = make_huge(tmp_path / "source/train/cats/000.jpg")
    said = "it has 3,221,225,472 bytes; at most 268,435,456 are expected"
    with pytest.raises(InputError, match=f"train/cats/000.jpg cannot be read: {said}"):
        prepare(str(tmp_path / "source"), "huge", str(tmp_path / "data"))
    with pytest.raises(InputError, match=f"000.jpg: {said}"):
        read_square(path, Decoder(32))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("data", [b"", b"garbage", None])
def test_records_that_hold_no_image_are_named(tmp_path, data, workers):
    labelled_set.write(tmp_path, "numbers", [0, 1, 2, 3], files={2: data})
    source = ImageSource(open_records("numbers", "images", str(tmp_path)), 32)
    settings = {"batch_size": 2, "epochs": 1, "seed": 1, "train": False, "random_crop": False}
    with pytest.raises(InputError, match="numbers, split images: record 2"):
        list(pipeline.batches(source, METHOD.draw, workers=workers, **settings))


def test_a_record_that_is_no_example_is_named(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    labelled_set.write(tmp_path, "numbers", [0, 1])
    [file] = (tmp_path / "numbers/1.0.0").glob("*-of-00001")
    writer = ArrayRecordWriter(str(file), "group_size:1")
    for record in (b"\xff garbage", b""):
        writer.write(record)
    writer.close()
    records = open_records("numbers", "images", str(tmp_path))
    for read in (lambda: records.read([0]), lambda: records.read([1]), records.labels):
        with pytest.raises(InputError, match=r"numbers.*(holds no image|cannot be read)"):
            read()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("features.json", '"numClasses": "10"', '"numClasses": "1000000000"', "1,000,000,000 clas"),
        ("dataset_info.json", '["2"]', '["-2"]', "cannot be read"),
        ("dataset_info.json", '["2"]', '["9999999999999"]', "has 9999999999999 records"),
        ("dataset_info.json", "{", "{" * 10**5, "cannot be read"),
        ("dataset_info.json", '"splits"', '"split"', "cannot be read"),
    ],
)
def test_descriptions_that_claim_too_much(tmp_path, file, old, new, said):
    labelled_set.write(tmp_path, "numbers", [0, 1])
    path = tmp_path / "numbers/1.0.0" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        open_records("numbers", "images", str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", 10**12, "epochs must be <= 1000000"),
        ("seed", 2**63, "seed must be <= 4294967295"),
        ("batch_size", 10**12, "batch_size must be <= 16777216"),
        ("checkpoint_every_steps", 10**30, "checkpoint_every_steps must be <= 9,007"),
        ("optimizer.learning_rate", float("inf"), "learning_rate must be finite, got inf"),
        ("optimizer.learning_rate", float("nan"), "learning_rate must be > 0, got nan"),
        ("model.width", 1e9, "model.width must be <= 64"),
        ("model.width", 64.0, "a state of .* numbers.* needs at least .* GB, and this machine has"),
        ("data.image_size", 10**5, "data.image_size must be <= 2048"),
        ("data.canvas", 2049, "data.canvas must be <= 2048"),
    ],
)
def test_settings_that_no_machine_can_hold(make_config, tmp_path, key, value, said):
    config = make_config("classification")
    config.batch_size = 64
    *groups, name = key.split(".")
    group = config
    for each in groups:
        group = group[each]
    with group.ignore_type():
        group[name] = value
    with pytest.raises(InputError, match=said):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_no_machine_can_hold(make_config, tmp_path):
    config = make_config("classification")
    config.data.train_split, config.batch_size, config.data.image_size = "images", 10_000, 2048
    with pytest.raises(InputError, match="batch_size=10000 with images of 2048 px needs at least"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("group", "name"), [("model", {}), ("model", []), ("method", {"a": 1})])
def test_names_that_are_no_text(make_config, tmp_path, group, name):
    config = make_config("classification").to_dict()
    config[group]["name"] = name
    with pytest.raises(InputError, match=rf"{group}.name: unknown {group} "):
        train(ConfigDict(config), tmp_path / "run")


@pytest.mark.parametrize("value", [10**30, 10**400, 1e7, float("nan"), "1", None])
def test_means_that_no_channel_has(make_config, tmp_path, value):
    config = make_config("classification")
    with config.ignore_type():
        config.data.mean = (0.5, 0.5, value)
    right = " must be three numbers, one per channel, of at most 1,000,000"
    if not isinstance(value, int | float):
        right = r": expected tuple as in \(0.5, 0.5, 0.5\)"
    with pytest.raises(InputError, match=f"data.mean{right}, got"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", "1"), ("step", 1e30), ("step", -1), ("examples", 0), ("metrics", [1]), ("hits", "0"),
     ("metrics", {"top1": float("nan")}), ("confusion", [[1]]), ("class_names", [1])],
)  # fmt: skip
def test_evaluations_of_another_shape(tmp_path, key, value):
    good = {
        "dataset": "a", "split": "b", "checkpoint": "best", "step": 1, "examples": 1,
        "metrics": {}, "standard_error": {}, "chance": {},
    }  # fmt: skip
    (tmp_path / "evaluation").mkdir()
    file = tmp_path / "evaluation/a.json"
    file.write_text(json.dumps(good))
    assert read_all(tmp_path)[0].step == 1
    file.write_text(json.dumps({**good, key: value}))
    with pytest.raises(InputError, match=rf"a.json is damaged: .*{key}"):
        read_all(tmp_path)
