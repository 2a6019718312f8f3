"""Probes against scikit-learn, the statistics of random weights against a loop, the command."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

import ssljax
from ssljax.data.image_source import ImageSource
from ssljax.data.records import open_records
from ssljax.files.packed_bits import unpacked
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.network import Network, variables
from ssljax.probes import knn, linear, table
from ssljax.probes.accuracy import accuracies
from ssljax.probes.features import LabelledFeatures, extract, flat
from ssljax.probes.random_weights import with_random_weights
from ssljax.runs.feature_extraction import FeatureExtractor
from ssljax.runs.metrics_log import read_metrics
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import references
from tests.commands import run
from tests.kills import same


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
    assert set(accuracies(scores[:, :3], labels % 3)) == {"top1", "class_mean", "hits"}
    right = scores.argmax(axis=1) == labels
    assert np.array_equal(unpacked(found["hits"], 60), right)
    with pytest.raises(ValueError, match="digits of 90 values"):
        unpacked(found["hits"], 90)


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
    fresh = with_random_weights(model.run, 3, images)
    assert (fresh.checkpoint, fresh.run.config.seed) == ("random", 3)
    network = model.run.network.clone(batch_statistics=("backbone",))
    pixels = np.stack([model.pixels(image) for image, _ in records.read(range(70))])
    batch, found = model.run.config.batch_size, []
    assert batch == 32
    blank = jax.tree.map(np.zeros_like, fresh.parts["stats"])
    for start in (0, 32):  # the other six are no whole batch
        inputs = model.run.method.normalize(pixels[start : start + batch])
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
    done = run(
        "probe", f"--workdir={resnet_run}", "--random", "--seeds=2", "--label_fractions=0.5",
        "--draws=2", f"--json={tmp_path / 'rows.json'}",
    )  # fmt: skip
    rows = json.loads((tmp_path / "rows.json").read_text())
    draws = [(0.5, 0), (0.5, 1)]
    expected = [
        (seed, *draw, probe, k)
        for seed in (0, 1)
        for draw in draws
        for probe, k in (("knn", 20), ("knn", 200), ("linear", None))
    ]
    names = ("seed", "label_fraction", "draw", "probe")
    assert [(*(row[name] for name in names), row.get("k")) for row in rows] == expected
    assert all(row["weights"] == "random" and row["examples"] == 133 for row in rows)
    assert all(0.1 < row["top1"] <= row["top3"] <= row["top5"] <= 1 for row in rows)
    assert {row["l2"] for row in rows if row["probe"] == "linear"} <= set(linear.L2S)
    head, *lines = done.stdout.splitlines()
    assert head.split()[:2] == ["probe", "labels"]
    assert [line.split()[-13] for line in lines] == ["4"] * 3
    trained = ssljax.probe(resnet_run, probes=("knn",))
    assert [(row["weights"], row["k"]) for row in trained] == [("latest", 20), ("latest", 200)]


@pytest.mark.quick
def test_tables_show_one_number_of_neighbours():
    rows = [
        {"probe": probe, "label_fraction": fraction, **chosen}
        for fraction in (1.0, 0.1)
        for probe, chosen in (("knn", {"k": 20}), ("knn", {"k": 200}), ("linear", {"l2": 0.1}))
    ]
    assert table.of_protocol(rows, "knn", 1.0) == rows[:1]
    assert table.of_protocol(rows, "linear", 0.1) == rows[5:]


@pytest.mark.reference
def test_rows_are_scikit_learns_on_exported_features(resnet_run):
    neighbors, linear_model, preprocessing = map(
        references.load,
        ("sklearn.neighbors", "sklearn.linear_model", "sklearn.preprocessing"),
    )
    data = ssljax.load_run(resnet_run).run.config.data
    known, asked = (
        ssljax.features(resnet_run, data[f"{split}_split"]) for split in ("train", "test")
    )
    first, _, fitted = ssljax.probe(resnet_run)
    theirs = neighbors.KNeighborsClassifier(
        20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(known.features, known.labels)
    score = theirs.score(asked.features, asked.labels)
    assert first["top1"] == pytest.approx(score, abs=1e-3)
    scaler = preprocessing.StandardScaler().fit(known.features)
    theirs = linear_model.LogisticRegression(
        C=1 / (2 * fitted["l2"] * len(known.labels)), tol=1e-6, max_iter=5000
    ).fit(scaler.transform(known.features), known.labels)
    score = theirs.score(scaler.transform(asked.features), asked.labels)
    assert fitted["top1"] == pytest.approx(score, abs=1e-3)


@pytest.fixture(scope="module")
def clouds():
    """Features of training, validation and test images of seven classes, one of them unused."""
    rng = np.random.default_rng(0)
    centres, mix = rng.normal(size=(6, 16)), rng.normal(size=(16, 16))

    def draw(count):
        labels = rng.integers(0, 6, count).astype(np.int32)
        values = (centres[labels] + 2 * rng.normal(size=(count, 16))) @ mix + 3
        values[:, 5] = 7  # a unit that never changes
        return LabelledFeatures(values.astype(np.float32), labels)

    return draw(400), draw(300), draw(300)


@pytest.mark.quick
@pytest.mark.reference
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-5])
def test_a_linear_classifier_is_scikit_learns(clouds, l2):
    linear_model = references.load("sklearn.linear_model")
    preprocessing = references.load("sklearn.preprocessing")
    special = references.load("scipy.special")
    train, _, test = clouds
    standardised = linear.Standardisation(train.values)
    scaler = preprocessing.StandardScaler().fit(train.values)
    np.testing.assert_allclose(
        standardised(test.values), scaler.transform(test.values), rtol=1e-3, atol=1e-3
    )
    values = standardised(train.values)
    ours = linear.make_fit(values, train.labels, 7)(l2, None)
    theirs = linear_model.LogisticRegression(C=1 / (2 * l2 * 400), tol=1e-8, max_iter=9999)
    theirs.fit(values.astype(np.float64), train.labels)

    def objective(weights, biases):
        logits = values.astype(np.float64) @ weights + biases
        losses = special.logsumexp(logits, axis=1) - logits[np.arange(400), train.labels]
        return losses.mean() + l2 * np.square(weights, dtype=np.float64).sum()

    lowest = objective(theirs.coef_.T, theirs.intercept_)
    # With an L2 that is off by a quarter, the difference is larger than 2e-5.
    assert objective(ours.weights, ours.biases) == pytest.approx(lowest, rel=0, abs=1e-5)
    logits = standardised(test.values) @ ours.weights + ours.biases
    np.testing.assert_allclose(
        jax.nn.softmax(logits[:, :6], axis=1),
        theirs.predict_proba(standardised(test.values)),
        # The smaller the L2, the flatter is the minimum; rounding decides where the search ends.
        atol=5e-4 if l2 > 1e-3 else 5e-3,
    )
    score = theirs.score(standardised(test.values), test.labels)
    assert np.mean(logits.argmax(axis=1) == test.labels) == pytest.approx(score, abs=1e-3)


@pytest.mark.quick
def test_the_l2_is_the_best_on_validation_images(clouds):
    train, validation, test = clouds
    l2s = linear.L2S[::3]
    found, scores = linear.probe(train, validation, test, 7, l2s)
    standardised = linear.Standardisation(train.values)
    fit = linear.make_fit(standardised(train.values), train.labels, 7)
    hits = {}
    for l2 in l2s:
        fitted = fit(l2, None)
        logits = standardised(validation.values) @ fitted.weights + fitted.biases
        hits[l2] = int(np.sum(logits.argmax(axis=1) == validation.labels))
    # A search that begins elsewhere may end a rounding error apart.
    assert hits[found] >= max(hits.values()) - 1
    assert scores.shape == (300, 7)


@pytest.mark.quick
@pytest.mark.reference
@pytest.mark.parametrize("shape", [(14, 11, 96), (3, 3, 2000), (1, 1, 20_000)])
def test_large_layers_are_averaged_as_pytorch_does(shape):
    functional = references.load("torch.nn.functional")
    torch = references.load("torch")
    outputs = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    side = max(1, int((10_000 / shape[2]) ** 0.5))
    pooled = functional.adaptive_avg_pool2d(
        torch.from_numpy(outputs.transpose(0, 3, 1, 2)), (min(side, shape[0]), min(side, shape[1]))
    )
    expected = pooled.numpy().transpose(0, 2, 3, 1).reshape(2, -1)
    np.testing.assert_allclose(flat(outputs), expected, atol=1e-5)
    assert np.array_equal(flat(outputs[:, :2, :2, :90]), outputs[:, :2, :2, :90].reshape(2, -1))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_devices_finds_the_features_of_each_image_once(resnet_run, count):
    model = ssljax.load_run(resnet_run)
    records = open_records(
        model.run.config.data.dataset, "images[:77]", model.run.config.data.data_dir
    )
    images = ImageSource(records.labelled(), 32)
    extractor = FeatureExtractor(model.run, "", jax.devices()[:count])
    weights = extractor.place(model.params, model.parts["stats"])
    found = extract(extractor, weights, images)
    assert np.array_equal(found.labels, records.labels())
    expected = model.features([image for image, _ in records.read(range(77))])
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)


def test_features_are_kept_until_weights_or_images_are_others(pretext_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(pretext_run, folder, ignore=shutil.ignore_patterns("probes"))

    def computed(**options):
        """The rows, and how many splits were computed."""
        capsys.readouterr()
        rows = ssljax.probe(folder, ("knn",), **options)
        return rows, capsys.readouterr().err.count("features of")

    rows, count = computed()
    assert count == 2
    assert computed() == (rows, 0)
    assert computed(layer="conv5", test_split="images[90%:95%]")[1] == 2
    assert computed(layer="conv5")[1] == 1
    files = sorted((folder / "probes").glob("features-*.npy"))
    assert len(files) == 5
    for file in files:
        file.write_bytes(file.read_bytes()[:-4] if file != files[0] else b"")  # cut off
    assert computed() == (rows, 2)
    shutil.rmtree(folder / "probes")
    (folder / "probes").symlink_to(tmp_path)
    assert computed() == (rows, 2)
    assert not list(tmp_path.glob("features*"))


def test_probes_during_training_change_nothing(make_config, tmp_path):
    config = make_config("simclr,small_net").copy_and_resolve_references().unlock()
    config.epochs, config.validate_every_epochs = 4, 2
    config.data.test_split = "there is none"
    train(config, tmp_path / "without")
    config.probes = {"knn": {"every_epochs": 1}, "linear": {"every_epochs": 3}}
    train(config, tmp_path / "with")
    shutil.copytree(tmp_path / "with", tmp_path / "again")
    rows = read_metrics(tmp_path / "with")
    probed = [row for row in rows if row["kind"] == "probe"]
    names = [set(row) - {"kind", "step", "epoch"} for row in probed]
    both = {"knn_top1", "linear_top1"}
    assert [row["epoch"] for row in probed] == [1, 2, 3, 4]
    assert names == [{"knn_top1"}, {"knn_top1"}, both, both]
    assert all(0 < value <= 1 for row in probed for name, value in row.items() if name in both)
    left = [row for row in rows if row["kind"] != "probe"]
    log = "".join(json.dumps(row) + "\n" for row in left)
    (tmp_path / "with/metrics.jsonl").write_text(log)
    assert same(tmp_path / "with", tmp_path / "without")

    # Interrupted after the last checkpoint, before its probes.
    last = probed[-1]["step"]
    rest = [row for row in rows if row["step"] < last or row["kind"] == "train"]
    log = "".join(json.dumps(row) + "\n" for row in rest)
    (tmp_path / "again/metrics.jsonl").write_text(log)
    train(config, tmp_path / "again")
    assert [row for row in read_metrics(tmp_path / "again") if row["kind"] == "probe"] == probed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'"),
        (
            {"test_split": "images[:50]"},
            "50 of 50 images .* which are the probe's images with labels",
        ),
        ({"seeds": 2}, "--seeds is for --random"),
        ({"random": True, "checkpoint": "latest"}, "--checkpoint is for trained weights"),
        ({"train_split": "nope"}, "split 'nope' of fashion_mnist_10k"),
        ({"probes": ("kn",)}, "--probes: 'kn' is unknown; did you mean 'knn'"),
        ({"label_fractions": (1, 0.5, 0.5)}, "--label_fractions has the same value twice: 1,0.5,0"),
        ({"label_fractions": (1, 1.5)}, "--label_fractions must be > 0 and <= 1, got 1.5"),
    ],
)
def test_mistakes_are_named(pretext_run, arguments, said):
    with pytest.raises(InputError, match=said):
        ssljax.probe(pretext_run, **arguments)
