"""A test on images that were trained on is noticed, also across data sets."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ssljax.data.records import open_records
from ssljax.evaluate import evaluate
from ssljax.prepare import prepare
from ssljax.runs import contamination
from ssljax.runs.contamination import check_apart
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import sources

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory) -> str:
    """`first` has 300 images; `second` has 300 others for training, and tests on 2 + 198."""
    folder = tmp_path_factory.mktemp("sets")
    images = {
        ("train", label, f"{label}{index}.png"): sources.image(1000 * place + index, side=32)
        for place, label in enumerate(sources.CLASSES)
        for index in range(100)
    }
    sources.class_folders(folder / "a", images)
    prepare(str(folder / "a"), "first", str(folder), splits="train:100")
    known = list(images.values())
    for name, copies in (("second", 2), ("third", 20)):
        others = {
            (split, sources.CLASSES[index % 3], f"{index}.png"): known[index]
            if split == "test" and index < copies
            else sources.image(10_000 * (1 + (split == "test")) + index, side=32)
            for split in ("train", "test")
            for index in range(300 if split == "train" else 250)
        }
        sources.folders(folder / f"s-{name}", others)
        prepare(str(folder / f"s-{name}"), name, str(folder))
    return str(folder)


@pytest.fixture
def configs(make_config, two_sets):
    def make(name, **data):
        config = make_config("jigsaw,small_net").copy_and_resolve_references().unlock()
        config.data.update(dataset=name, data_dir=two_sets, train_split="train",
                           validation_split="train[:50]", test_split="test", **data)  # fmt: skip
        return config

    return make


@pytest.mark.seconds
def test_many_copies_are_refused_and_a_few_are_said(configs, capsys):
    first = configs("first")
    check_apart(first, configs("second"))
    assert "2 of 250 images of second, split test are also in first, split train" in (
        capsys.readouterr().err
    )
    with pytest.raises(InputError, match=r"data.test_split: 20 of 250 images of third"):
        check_apart(first, configs("third"))
    check_apart(configs("second"), configs("second"))
    assert capsys.readouterr().err == ""


def test_what_is_not_compared_is_said(make_config, monkeypatch, tmp_path, shared_tfds, capsys):
    monkeypatch.setattr(contamination, "_SMALL", 0)
    config = make_config("jigsaw").copy_and_resolve_references().unlock()
    assert check_apart(config, config) == ""  # its digests are kept when it is prepared
    config.data.update(dataset="fashion_mnist", data_dir=shared_tfds)
    config.data.update(train_split="train[:100]", test_split="test[:100]")
    said = check_apart(config, config)
    assert "it is not checked whether images of fashion_mnist, split test[:100] are also in" in said
    assert said in capsys.readouterr().err


@pytest.mark.seconds
def test_a_run_that_starts_from_such_weights_is_refused(configs, tmp_path):
    train(configs("first"), tmp_path / "pretext")
    config = configs("third")
    config.init_from = str(tmp_path / "pretext")
    with pytest.raises(InputError, match="which the weights were trained on; test on other images"):
        train(config, tmp_path / "run")


@pytest.mark.seconds
def test_weights_remember_what_all_runs_before_them_were_trained_on(
    configs, make_config, tmp_path, monkeypatch, capsys
):
    """`first`, then the embedded images, then `third`, which tests on images of `first`."""
    train(configs("first"), tmp_path / "one")
    between = make_config("jigsaw,small_net").copy_and_resolve_references()
    monkeypatch.chdir(tmp_path)
    between.epochs, between.init_from = 1, "one"
    train(between, tmp_path / "two")
    monkeypatch.chdir("/")
    config = configs("third")
    config.init_from = str(tmp_path / "two")
    with pytest.raises(InputError, match="20 of 250 images .* which the weights were trained on"):
        train(config, tmp_path / "three")
    with pytest.raises(InputError, match="20 of 250 images .* which the weights were trained on"):
        evaluate(tmp_path / "two", dataset="third", split="test", data_dir=config.data.data_dir)
    shutil.rmtree(tmp_path / "one")
    train(config, tmp_path / "three")
    assert f"that {tmp_path}/one was trained on, which the weights came" in capsys.readouterr().err


@pytest.mark.seconds
def test_a_run_that_saw_its_own_test_images_says_so(make_config, tmp_path, capsys):
    config = make_config("jigsaw,small_net").copy_and_resolve_references()
    config.epochs, config.data.test_split = 1, "images[150:350]"
    train(config, tmp_path)
    said = "warning: data.test_split: 50 of 200 images of fashion_mnist_10k"
    evaluate(tmp_path)
    assert said in capsys.readouterr().err
    evaluate(tmp_path, split="images[150:350]")  # the user's own choice
    assert said not in capsys.readouterr().err


def test_splits_of_one_data_set_that_overlap_are_refused(make_config):
    config = make_config("jigsaw").copy_and_resolve_references()
    other = config.copy_and_resolve_references()
    other.data.test_split = "images[150:350]"
    with pytest.raises(InputError, match="50 of 200 images"):
        check_apart(config, other)


@pytest.mark.seconds
def test_digests_are_the_same_for_images_that_tfds_has_prepared(shared_tfds, data_dir):
    embedded = open_records("fashion_mnist_10k", "images", data_dir).digests()
    published = open_records("fashion_mnist", "test", shared_tfds, write=False).digests()
    assert np.array_equal(np.sort(embedded), np.sort(published))
