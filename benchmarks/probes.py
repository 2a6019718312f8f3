"""Compares probes with scikit-learn's on the same features.

    python -m benchmarks.probes [--images=60000] [--rounds=3]

Made-up features of 512 numbers, correlated and not negative as those of a network, in ten classes.
`linear` and `sklearn_linear` standardise them, fit a classifier for each L2 until the gradient is
as small, choose one on 5,000 validation images and classify 10,000 test images. `knn` and
`sklearn_knn` classify these by 20 neighbours. Each says the accuracy that it reaches. `images/s`
counts the images with labels.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys

import numpy as np

from benchmarks import contenders

FEATURES, CLASSES, VALIDATION, TEST = 512, 10, 5000, 10_000


@functools.cache
def splits(images: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features float32[N, 512] and labels int32[N]: training, validation, test."""
    rng = np.random.default_rng(0)
    centres = 0.1 * rng.normal(size=(CLASSES, FEATURES))
    mix = rng.normal(size=(FEATURES, FEATURES)) * np.logspace(0, -2, FEATURES)
    found = []
    for count in (images, VALIDATION, TEST):
        labels = rng.integers(0, CLASSES, count).astype(np.int32)
        values = (centres[labels] + rng.normal(size=(count, FEATURES))) @ mix
        found.append((np.maximum(values, 0).astype(np.float32), labels))
    return found


def linear(images: int) -> contenders.Work:
    """By ssljax."""
    from ssljax.probes import linear as probe
    from ssljax.probes.features import LabelledFeatures

    train, validation, test = (LabelledFeatures(*split) for split in splits(images))

    def work() -> int:
        l2, scores = probe.probe(train, validation, test, CLASSES)
        _say(f"linear: L2 {l2:g}", scores.argmax(axis=1), test.labels)
        return images

    return work


def sklearn_linear(images: int) -> contenders.Work:
    """The same with scikit-learn's classifier, also from one L2 to the next."""
    from ssljax.probes.linear import L2S, PATIENCE, TOLERANCE

    linear_model = importlib.import_module("sklearn.linear_model")
    preprocessing = importlib.import_module("sklearn.preprocessing")
    train, validation, test = splits(images)

    def work() -> int:
        scaler = preprocessing.StandardScaler().fit(train[0])
        fitted_to, chosen_on, asked = (scaler.transform(split[0]) for split in splits(images))
        model = linear_model.LogisticRegression(tol=TOLERANCE, max_iter=1000, warm_start=True)
        best, worse = (-1.0, 0.0, np.empty(0)), 0
        for l2 in L2S:
            model.set_params(C=1 / (2 * l2 * images)).fit(fitted_to, train[1])
            score = model.score(chosen_on, validation[1])
            if score > best[0]:
                best, worse = (score, l2, model.predict(asked)), 0
            elif score < best[0] and (worse := worse + 1) == PATIENCE:
                break
        _say(f"sklearn_linear: L2 {best[1]:g}", best[2], test[1])
        return images

    return work


def knn(images: int) -> contenders.Work:
    """By ssljax."""
    from ssljax.probes.knn import votes

    (bank, labels), _, (queries, truth) = splits(images)

    def work() -> int:
        scores = votes(bank, labels, queries, CLASSES, (20,))[20]
        _say("knn", scores.argmax(axis=1), truth)
        return images

    return work


def sklearn_knn(images: int) -> contenders.Work:
    """scikit-learn's, with the same weights."""
    neighbors = importlib.import_module("sklearn.neighbors")
    (bank, labels), _, (queries, truth) = splits(images)

    def work() -> int:
        model = neighbors.KNeighborsClassifier(
            20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
        )
        _say("sklearn_knn", model.fit(bank, labels).predict(queries), truth)
        return images

    return work


def _say(what: str, guesses: np.ndarray, truth: np.ndarray) -> None:
    print(f"{what}, top-1 {np.mean(guesses == truth):.4f}", file=sys.stderr)


def main() -> None:
    """Runs the comparisons."""
    parser = contenders.arguments(__doc__.partition("\n")[0], "images", rounds=3)
    parser.set_defaults(images=60_000)
    options = parser.parse_args()
    for ours in ("linear", "knn"):
        names = [ours, f"sklearn_{ours}"]
        own = argparse.Namespace(**vars(options))
        own.json = own.json and own.json.replace(".json", f"_{ours}.json")
        contenders.compare("benchmarks.probes", names, own, ours, "images")


if __name__ == "__main__":
    main()
