"""Maps of features: which ones have none, and that none of them ends the process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ssljax.report import feature_map
from ssljax.report.feature_sample import Sample
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT
from tests.test_study import Page

DIMENSIONS = 32


def unit(features):
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)


def live(rng, values):
    """Features of which only the first units are not 0."""
    return np.pad(values, ((0, 0), (0, DIMENSIONS - values.shape[1])))


# What collapsed networks give, by name, and whether there is a map of it.
COLLAPSED = {
    "zeros": (lambda rng, rows: np.zeros((rows, DIMENSIONS)), False),
    "equal": (lambda rng, rows: np.tile(rng.normal(size=DIMENSIONS), (rows, 1)), False),
    "ones": (lambda rng, rows: np.ones((rows, DIMENSIONS)), False),
    "nearly equal": (
        lambda rng, rows: 1 + 1e-5 * rng.normal(size=(rows, DIMENSIONS)), False,
    ),
    "one positive unit": (lambda rng, rows: live(rng, 0.1 + rng.random((rows, 1))), False),
    "one unit": (lambda rng, rows: live(rng, rng.normal(size=(rows, 1))), True),
    "one unit, also 0": (lambda rng, rows: live(rng, rng.integers(0, 2, (rows, 1))), True),
    "one image differs": (
        lambda rng, rows: live(rng, np.add(np.eye(rows, 2), [0, 1])), True,
    ),
    "two units": (lambda rng, rows: live(rng, rng.random((rows, 2))), True),
    "two units, also 0": (
        lambda rng, rows: live(rng, np.maximum(rng.normal(size=(rows, 2)), 0)), True,
    ),
    "one dimension": (lambda rng, rows: rng.normal(size=(rows, 1)), True),
    "just apart": (lambda rng, rows: 1 + 1.5e-3 * rng.normal(size=(rows, DIMENSIONS)), True),
}  # fmt: skip


def features(name, rows):
    return unit(COLLAPSED[name][0](np.random.default_rng(rows), rows))


def sample(values):
    count = len(values)
    thumbnails = np.zeros((count, 36, 36, 3), np.uint8)
    return Sample(thumbnails, np.arange(count) % 2, ("a", "b"), values)


def in_this_process(rows):
    """Draws all of them; `python -m tests.test_feature_map` calls it."""
    for name in COLLAPSED:
        print(name, flush=True)
        page = "".join(feature_map.section([("task", sample(features(name, rows)))]))
        assert "NaN" not in page
        assert "nan" not in page
        assert page.count("<circle") == (rows if COLLAPSED[name][1] else 0), name


@pytest.mark.parametrize("rows", [10, 50, 500])
def test_no_features_end_the_process(rows):
    """In a process of its own, since scikit-learn ended it with a segmentation fault."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_feature_map", str(rows)],
        cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    assert done.stdout.splitlines() == list(COLLAPSED)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_without_a_map_has_a_sentence_in_its_place(value):
    good = features("two units", 12)
    bad = good.copy()
    bad[3, 1] = value
    page = Page("".join(feature_map.section([("good", sample(good)), ("bad", sample(bad))])))
    said = "There is no map, because some features are NaN or infinite."
    assert said in page.words
    assert page.open == []
    collapsed = sample(features("zeros", 12))
    text = "".join(feature_map.section([("<svg>", collapsed)]))
    assert "because the features of all images are nearly the same." in text
    assert "<svg" not in text
    assert "Point at a dot" not in text


if __name__ == "__main__":
    in_this_process(int(sys.argv[1]))
