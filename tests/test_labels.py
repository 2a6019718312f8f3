"""Labels that are missing or out of range are named, and never trained on or counted."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest

from ssljax import study
from ssljax.data.records import NO_LABEL, open_records
from ssljax.data.subset import label_fraction
from ssljax.evaluate import evaluate
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import labelled_set, tiny_study

pytestmark = pytest.mark.quick

BAD = {
    -1: r"no label \(-1\)",
    None: r"no label \(-1\)",
    10: "the label 10",
    2**40: "the label 1099",
}
GOOD = [index % 10 for index in range(40)]


@pytest.fixture
def config(make_config, tmp_path):
    config = make_config("classification,small_net")
    config.data.data_dir = str(tmp_path / "tfds")
    config.data.dataset = "numbers"
    config.data.train_split = config.data.validation_split = "images"
    config.data.test_split = "images"
    config.batch_size = 8
    config.epochs = 1
    return config


def kept(folder: pathlib.Path) -> list[pathlib.Path]:
    return list(folder.rglob("*.npy"))


@pytest.mark.parametrize("bad", BAD)
def test_training_refuses_labels_that_are_no_class(config, tmp_path, bad):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, bad, *GOOD, bad])
    said = rf"numbers, split images: 2 of 82 labels .*: record 40 has {BAD[bad]}.*, .* are 0 to 9; "
    with pytest.raises(InputError, match=said):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train_split", "validation_split"])
def test_only_the_records_of_the_split_count(config, tmp_path, split):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, -1])
    config.data.train_split = config.data.validation_split = "images[:40]"
    config.data[split] = "images[38:]"
    with pytest.raises(InputError, match="1 of 3 labels cannot be used: record 2 has no label"):
        train(config, tmp_path / "run")
    config.data[split] = "images[:40]"
    train(config, tmp_path / "run")


def test_a_method_without_labels_does_not_look_at_them(config, make_config, tmp_path):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, -1, None, 10, 2**40])
    data = config.data
    config = make_config("rotation,small_net").copy_and_resolve_references()
    config.data, config.batch_size, config.epochs = data, 8, 1
    train(config, tmp_path / "run")
    records = open_records("numbers", "images", str(tmp_path / "tfds"))
    assert [records[index][1] for index in range(40, 44)] == [NO_LABEL] * 4
    with pytest.raises(InputError, match="4 of 44 labels cannot be used"):
        label_fraction(records, 0.5, seed=0)


@pytest.mark.parametrize(
    ("bad", "labels_are_kept"), [(-1, True), (-1, False), (None, False), (10, False)]
)
def test_evaluating_refuses_them(config, tmp_path, bad, labels_are_kept):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, *[bad] * 5])
    config.data.train_split = config.data.validation_split = "images[:40]"
    train(config, tmp_path / "run")
    [file] = kept(tmp_path / "tfds")
    if not labels_are_kept:
        file.unlink()
    with pytest.raises(InputError, match=rf"record 40 has {BAD[bad]}.* are 0 to 9"):
        evaluate(tmp_path / "run")
    assert (len(kept(tmp_path / "tfds")) == 1) == labels_are_kept
    assert evaluate(tmp_path / "run", split="images[:40]")["examples"] == 40


def test_labels_are_checked_when_read_where_none_can_be_kept(config, tmp_path, monkeypatch):
    """As in a bucket, where checking all labels would read all images."""
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, 11])
    monkeypatch.setattr("ssljax.data.beside.os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="numbers, split images: record 40 has the label 11"):
        train(config, tmp_path / "run")
    assert not kept(tmp_path / "tfds")


def test_kept_labels_of_other_data_are_not_believed(config, tmp_path):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, -1])
    [file] = (tmp_path / "tfds").rglob("*.array_record-*")
    np.save(f"{file}.label.npy", np.zeros(41, np.int64))
    with pytest.raises(InputError, match="record 40 has no label"):
        train(config, tmp_path / "run")


def test_a_study_is_refused_before_anything_is_trained(data_dir, tmp_path):
    labelled_set.write(tmp_path / "tfds", "numbers", [*GOOD, -1])
    open_records("fashion_mnist_10k", "images", data_dir)
    shutil.copytree(
        pathlib.Path(data_dir, "fashion_mnist_10k"), tmp_path / "tfds/fashion_mnist_10k"
    )
    config = tiny_study.get_config()
    for run in (config.classification, *config.pretexts.values()):
        run.data.data_dir = str(tmp_path / "tfds")
    config.classification.data.dataset = "numbers"
    config.classification.data.train_split = "images[:40]"
    config.classification.data.validation_split = "images[:40]"
    config.classification.data.test_split = "images"
    with pytest.raises(InputError, match="numbers, split images: 1 of 41 labels"):
        study(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()
