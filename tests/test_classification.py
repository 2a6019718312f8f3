from __future__ import annotations

import numpy as np
import pytest

from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.settings.errors import InputError
from ssljax.training.metrics import MetricSums

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)


def classification(classes):
    return make_method({"name": "classification"}, DataSpec(64, num_classes=classes))


def context(labels):
    return Context({"label": labels}, None, None, {}, 0.0, {})


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
