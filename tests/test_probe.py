"""kNN against scikit-learn, the statistics of random weights against a loop, and the command."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import ssljax
from ssljax.data.image_source import ImageSource
from ssljax.data.records import open_records
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.network import Network, variables
from ssljax.probes import knn
from ssljax.probes.accuracy import accuracies
from ssljax.probes.random_weights import with_random_weights
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import references
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT


@pytest.mark.quick
@pytest.mark.reference
@pytest.mark.parametrize("chunk", [2**24, 700])
def test_votes_are_scikit_learns(monkeypatch, chunk):
    neighbors = references.load("sklearn.neighbors")
    monkeypatch.setattr(knn, "_SIMILARITIES", chunk)
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 7, 300), rng.integers(0, 7, 45)
    centres = rng.normal(size=(7, 16))
    bank = (centres[labels] + 2 * rng.normal(size=(300, 16))).astype(np.float32)
    queries = (centres[truth] + 2 * rng.normal(size=(45, 16))).astype(np.float32)
    found = knn.votes(bank, labels, queries, 8, (20, 200))
    for count in (20, 200):
        theirs = neighbors.KNeighborsClassifier(
            count, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
        ).fit(bank, labels)
        ours = found[count] / found[count].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ours[:, :7], theirs.predict_proba(queries), atol=1e-5)
        assert (ours[:, 7] == 0).all()
    assert np.array_equal(knn.votes(bank[:9], labels[:9], queries, 8, (20,))[20].shape, (45, 8))


@pytest.mark.quick
def test_accuracies_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (60, 7)).astype(np.float32), rng.integers(0, 6, 60)
    found = accuracies(scores, labels)
    for count in (1, 3, 5):
        hits = [
            label in sorted(range(7), key=lambda k: (-row[k], k))[:count]
            for row, label in zip(scores, labels, strict=True)
        ]
        assert found[f"top{count}"] == np.mean(hits)
    means = [np.mean(scores[labels == k].argmax(axis=1) == k) for k in range(6)]
    assert found["class_mean"] == pytest.approx(np.mean(means))
    assert set(accuracies(scores[:, :3], labels % 3)) == {"top1", "class_mean"}


@pytest.fixture(scope="module")
def resnet_run(make_config, tmp_path_factory):
    """SimCLR on a narrow ResNet."""
    config = make_config("simclr").copy_and_resolve_references().unlock()
    config.model = {"name": "resnet18", "width": 1 / 16, "stem": "small"}
    config.init_layers, config.epochs, config.data.image_size = "backbone", 1, 32
    folder = tmp_path_factory.mktemp("probe") / "run"
    train(config, folder)
    return folder


def test_random_weights_have_the_statistics_of_one_pass(resnet_run):
    model = ssljax.load_run(resnet_run)
    data = model.run.config.data
    records = open_records(data.dataset, "images[:70]", data.data_dir)
    images = ImageSource(records, 32)
    fresh = with_random_weights(model, 3, images)
    assert (fresh.checkpoint, fresh.run.config.seed) == ("random", 3)
    network = model.run.network.clone(batch_statistics=("backbone",))
    pixels = np.stack([model.pixels(image) for image, _ in records.read(range(70))])
    batch, found = model._batch_size, []
    order = [*range(70), *range(-70 % batch)]  # the last batch is filled from the beginning
    blank = jax.tree.map(np.zeros_like, fresh.parts["stats"])
    for start in range(0, len(order), batch):
        inputs = model.run.method.normalize(pixels[order[start : start + batch]])
        _, changed = network.apply(
            variables(fresh.params, blank), inputs, method=Network.backbone, mutable=[COLLECTION]
        )
        found.append(changed[COLLECTION]["backbone"])
    expected = jax.tree.map(lambda *parts: 10 * np.mean(parts, axis=0), *found)
    for ours, theirs in zip(
        jax.tree.leaves(fresh.parts["stats"]["backbone"]), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_command_writes_what_the_function_returns(resnet_run, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ssljax.probe", f"--workdir={resnet_run}", "--random", "--seeds=2",
         f"--json={tmp_path / 'rows.json'}"],
        cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["k"], row["seed"]) for row in rows] == [(20, 0), (200, 0), (20, 1), (200, 1)]
    assert all(row["weights"] == "random" and row["examples"] == 133 for row in rows)
    assert all(0.1 < row["top1"] <= row["top3"] <= row["top5"] <= 1 for row in rows)
    assert "mean of" in done.stdout
    trained = ssljax.probe(resnet_run)
    assert [row["weights"] for row in trained] == ["latest", "latest"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'"),
        (
            {"test_split": "images[:50]"},
            "50 of 50 images .* which are the probe's images with labels",
        ),
        ({"seeds": 2}, "--seeds is for --random"),
        ({"train_split": "nope"}, "split 'nope' of fashion_mnist_10k"),
    ],
)
def test_mistakes_are_named(pretext_run, arguments, said):
    with pytest.raises(InputError, match=said):
        ssljax.probe(pretext_run, **arguments)
