"""What is in images, and how well a run does on another data set."""

from __future__ import annotations

import itertools
import json
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from ssljax import load_run
from ssljax.data import given_images
from ssljax.data.records import open_records
from ssljax.data.sets.fashion_mnist_10k import FashionMnist10k
from ssljax.evaluate import evaluate
from ssljax.predict import predictions
from ssljax.runs.checkpoints import BEST, Checkpoints
from ssljax.settings.errors import Diverged, InputError
from tests.test_command_line import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images in a folder and below it, one of them bad, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "below/b.JPG", "d.png"):
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    (folder / "c.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image file")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def test_a_folder_stands_for_its_images(folder, tmp_path):
    found = given_images.find([str(folder), "other.tif"])
    assert [str(path) for path in found] == [
        *(f"{folder}/{name}" for name in ("a.png", "below/b.JPG", "c.png", "d.png")), "other.tif"
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"the folder has no image files \(.jpg, "):
        given_images.find([str(tmp_path)])


def test_a_bad_image_is_named_and_the_others_are_classified(classification_run, folder):
    workdir = f"--workdir={classification_run}"
    done = run("predict", workdir, "--top=2", str(folder), "none.jpg", code=2)
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{folder}/{name}" for name in ("a.png", "below/b.JPG", "d.png")
    ]
    assert all(line.count("%") == 2 for line in lines)
    assert f"{folder}/c.png cannot be read as an image" in done.stderr
    assert "none.jpg: No such file" in done.stderr
    assert done.stderr.endswith("ssljax-predict: 2 of 5 images cannot be read\n")

    done = run("predict", workdir, "--json", f"{folder}/c.png", f"{folder}/a.png", code=2)
    bad, good = map(json.loads, done.stdout.splitlines())
    assert bad["image"] == f"{folder}/c.png"
    assert "cannot be read" in bad["error"]
    assert good["image"] == f"{folder}/a.png"
    assert [*good["classes"][0]] == ["class", "probability"]
    assert len(good["classes"]) == 5


def test_predictions_are_those_of_classify(classification_run, folder):
    model = load_run(classification_run)
    files = [folder / "a.png", folder / "c.png", *[folder / "d.png"] * 70]
    results = [named for _, named in predictions(model, files, top=3)]
    assert isinstance(results[1], InputError)
    assert [name for name, _ in results[0]] == [name for name, _ in model.classify(files[0], 3)[0]]
    (d,) = model.classify(files[-1], top=3)
    for named in results[2:]:
        assert [name for name, _ in named] == [name for name, _ in d]
        np.testing.assert_allclose([p for _, p in named], [p for _, p in d], rtol=1e-4)


def test_one_image_is_the_same_as_a_list_of_one(classification_run, folder):
    model = load_run(classification_run)
    path = folder / "a.png"
    pixels = np.asarray(Image.open(path))
    for one in (path, str(path), path.read_bytes(), Image.open(path), pixels, pixels[None]):
        np.testing.assert_allclose(model.outputs(one), model.outputs([path]), rtol=1e-4)
    assert model.features(path).shape[0] == 1
    assert [name for name, _ in model.classify(str(path))[0]] == [
        name for name, _ in model.classify([path])[0]
    ]


def test_weights_that_are_not_finite_give_no_answer(classification_run, folder, tmp_path):
    shutil.copytree(classification_run, tmp_path / "run")
    model = load_run(classification_run)
    params = jax.tree.map(lambda leaf: leaf * np.nan, model.params)
    checkpoints = Checkpoints(tmp_path / "run")
    names = {"class_names": list(model.class_names)}
    checkpoints.save(BEST, model.step + 1, {"params": params}, names)
    checkpoints.wait()
    checkpoints.close()
    with pytest.raises(InputError, match="outputs of the best checkpoint, step .* not finite"):
        load_run(tmp_path / "run").classify(folder / "a.png")
    with pytest.raises(Diverged, match="loss of the best checkpoint, step .* is nan"):
        evaluate(tmp_path / "run")


class Others(FashionMnist10k):
    """A data set with the same classes."""

    def _generate_examples(self):
        return itertools.islice(super()._generate_examples(), 50)


class Digits(Others):
    """A data set with other classes."""

    def _info(self):
        label = tfds.features.ClassLabel(num_classes=10)
        features = {**super()._info().features, "label": label}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


def test_a_run_is_evaluated_on_another_data_set(classification_run, tmp_path):
    for builder in (Others, Digits):
        made = builder(data_dir=str(tmp_path), file_format="array_record")
        made.download_and_prepare(download_dir=tmp_path / "none")
    run("evaluate", f"--workdir={classification_run}", "--dataset=others", "--split=images",
        f"--data_dir={tmp_path}")  # fmt: skip
    (path,) = classification_run.glob("evaluation/others-images-step-*.json")
    result = json.loads(path.read_text())
    assert (result["dataset"], result["examples"]) == ("others", 50)
    records = open_records("others", "images", str(tmp_path))
    images, labels = zip(*records.read(range(50)), strict=True)
    guesses = load_run(classification_run).outputs(images).argmax(axis=1)
    assert result["metrics"]["top1"] == np.mean(guesses == labels)
    assert (
        np.sum(result["confusion"], axis=1).tolist() == np.bincount(labels, minlength=10).tolist()
    )
    with pytest.raises(InputError, match=r"digits, split images has the classes \['0', "):
        evaluate(classification_run, split="images", dataset="digits", data_dir=str(tmp_path))


def test_a_run_is_not_tested_on_its_training_images(classification_run, shared_tfds):
    with pytest.raises(InputError, match="which the weights were trained on"):
        evaluate(classification_run, split="test", dataset="fashion_mnist", data_dir=shared_tfds)


def test_a_folder_of_runs_names_them(classification_run, pretext_run, tmp_path):
    study = tmp_path / "study"
    for name, run_folder in (("arm-random", classification_run), ("pretext-a", pretext_run)):
        shutil.copytree(run_folder, study / "seed-0" / name)
    inside = f"runs inside: {study}/seed-0/arm-random, {study}/seed-0/pretext-a"
    done = run("predict", f"--workdir={study}", "a.jpg", code=2)
    assert done.stderr == (
        f"ssljax-predict: {study} is not a run folder: it has no config.json; {inside}\n"
    )
    with pytest.raises(InputError, match=f"it has no config.json; {inside}"):
        evaluate(study)
    with pytest.raises(InputError, match="none is not a run folder: there is no such folder"):
        evaluate(tmp_path / "none")
