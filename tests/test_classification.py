from __future__ import annotations

import jax
import numpy as np
import pytest

import ssljax
from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.models.network import Network, variables
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.metrics import MetricSums
from ssljax.views.augment import make_views
from ssljax.views.keys import record_keys
from ssljax.views.recipes import recipe
from tests import references

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)


def classification(classes):
    return make_method({"name": "classification"}, DataSpec(64, num_classes=classes))


def context(labels):
    return Context({"label": labels}, None, None, {}, 0.0, {})


@pytest.mark.parametrize("place", [0, 3, slice(None)])
def test_outputs_with_nan_are_not_right(place):
    outputs = np.zeros((1, 7), np.float32)
    outputs[0, 3], outputs[0, place] = 1, np.nan
    metrics = classification(7).metrics(outputs, context(np.array([3])))
    assert [metrics[f"top{k}"][0].item() for k in (1, 3, 5)] == [0, 0, 0]


def test_loss_and_metrics_match_a_plain_loop():
    method = classification(7)
    outputs = RNG.normal(size=(50, 7)).astype(np.float32)
    outputs[:5] = 0  # ties
    labels = RNG.integers(0, 6, 50)  # class 6 never occurs
    sums = MetricSums()
    for start in range(0, 50, 20):
        part = context(labels[start : start + 20])
        metrics = method.metrics(outputs[start : start + 20], part)
        sums.add({name: (v.sum(axis=0), w.sum(axis=0)) for name, (v, w) in metrics.items()})

    hits = {1: 0, 3: 0, 5: 0}
    by_class = {label: [] for label in range(6)}
    losses = []
    for row, label in zip(outputs.astype(np.float64), labels, strict=True):
        order = sorted(range(7), key=lambda index: (-row[index], index))
        for k in hits:
            hits[k] += label in order[:k]
        by_class[label].append(order[0] == label)
        losses.append(np.log(np.exp(row).sum()) - row[label])
    means = sums.means()
    for k, count in hits.items():
        assert means[f"top{k}"] == pytest.approx(count / 50)
    expected = np.mean([np.mean(right) for right in by_class.values()])
    assert means["class_mean"] == pytest.approx(expected)
    np.testing.assert_allclose(method.loss(outputs, context(labels)), losses, rtol=1e-5)


def test_chance_names_the_most_frequent_classes():
    labels = np.repeat([5, 2, 0, 1, 7, 3], [10, 6, 5, 4, 3, 2])
    expected = {"top1": 10 / 30, "top3": 21 / 30, "top5": 28 / 30, "class_mean": 1 / 6}
    assert classification(8).chance(labels) == pytest.approx(expected)


def test_a_data_set_without_labels_is_refused():
    with pytest.raises(InputError, match="needs labels of at least two classes"):
        classification(0)


def test_unknown_names_name_the_nearest():
    with pytest.raises(InputError, match=r"method.name: .*did you mean 'jigsaw'\?"):
        make_method({"name": "jigsew"}, DataSpec(64))
    with pytest.raises(InputError, match=r"method.tiles: .*did you mean 'tile'\?"):
        make_method({"name": "jigsaw", "tiles": 3}, DataSpec(64))
    with pytest.raises(InputError, match=r"method.gap: expected int as in 0, got '3'"):
        make_method({"name": "jigsaw", "gap": "3"}, DataSpec(64))


@pytest.mark.reference
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_pytorchs(smoothing):
    torch = references.load("torch")
    options = {"name": "classification", "label_smoothing": smoothing}
    method = make_method(options, DataSpec(64, num_classes=7))
    outputs, labels = RNG.normal(size=(50, 7)).astype(np.float32), RNG.integers(0, 7, 50)
    ours, gradient = jax.value_and_grad(lambda x: method.loss(x, context(labels)).mean())(outputs)
    logits = torch.from_numpy(outputs).requires_grad_()
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, torch.from_numpy(labels))
    theirs.backward()
    assert ours == pytest.approx(theirs.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, logits.grad, rtol=1e-4, atol=1e-7)


@pytest.fixture
def with_views(make_config):
    config = make_config("classification,small_net").copy_and_resolve_references().unlock()
    config.method.views, config.epochs = "supervised", 2
    return config


@pytest.mark.seconds
def test_views_are_made_when_training_and_squares_when_evaluating(with_views, tmp_path):
    run = train(with_views, tmp_path / "run")
    method, size = run.method, run.config.data.image_size
    images = RNG.integers(0, 256, (3, size, size, 3), np.uint8)
    batch = {"image": images, "height": np.full(3, size), "width": np.full(3, size)}
    keys = record_keys(0, 1, np.arange(3))
    sizes = np.full((3, 2), size, np.int32)
    expected = make_views(images, sizes, keys, recipe("supervised"), size)["global"][:, 0]
    np.testing.assert_allclose(method.inputs(batch, keys, True), method.normalize(expected))
    assert not np.allclose(method.inputs(batch, keys, True), method.normalize(images))
    np.testing.assert_allclose(
        method.inputs(batch, keys, False), method.normalize(images), atol=1e-5
    )
    result = ssljax.evaluate(tmp_path / "run")
    model = ssljax.load_run(tmp_path / "run")
    records = run.records(run.config.data.test_split)
    examples = records.read(range(len(records)))
    named = model.classify([image for image, _ in examples], top=1)
    right = [
        found[0][0] == run.class_names[label]
        for found, (_, label) in zip(named, examples, strict=True)
    ]
    # Squares are resized twice on the devices, and once on the host.
    assert np.mean(right) == pytest.approx(result["metrics"]["top1"], abs=1.5 / len(records))


@pytest.mark.seconds
def test_a_frozen_backbone_has_no_dropout(make_config):
    config = make_config("classification").copy_and_resolve_references().unlock()
    pixels = RNG.normal(size=(4, 64, 64, 3)).astype(np.float32)
    keys = record_keys(0, 1, np.arange(4))
    found = {}
    for frozen in ("backbone", "backbone/conv*"):
        config.frozen_layers = frozen
        run = open_run(resolve(config))
        params, stats = run.initial_variables()
        with_keys, without = (
            run.network.apply(
                variables(params, stats, given), pixels, method=Network.backbone,
                mutable=["batch_stats"],
            )[0]
            for given in (keys, None)
        )  # fmt: skip
        found[frozen] = np.array_equal(with_keys, without)
    assert found == {"backbone": True, "backbone/conv*": False}


def test_a_recipe_of_several_views_is_refused():
    options = {"name": "classification", "views": "simclr"}
    with pytest.raises(
        InputError, match="method.views: simclr makes several views; .* `supervised"
    ):
        make_method(options, DataSpec(64, num_classes=7))
