"""What is measured of features: every probe, at every share of the labels, over several draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ssljax.data.subset import select
from ssljax.probes import PROBES, knn, linear
from ssljax.probes.accuracy import accuracies
from ssljax.probes.features import LabelledFeatures
from ssljax.settings.errors import InputError, nearest


def check(probes: Sequence[str], label_fractions: Sequence[float]) -> None:
    """Checks what is asked for.

    Raises:
      InputError: an unknown probe, a share outside of (0, 1], or a value twice.
    """
    if not probes or not label_fractions:
        raise InputError("--probes and --label_fractions must each have at least one value")
    for name in probes:
        if name not in PROBES:
            raise InputError(f"--probes: {name!r} is unknown; {nearest(name, PROBES)}")
    for fraction in label_fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"--label_fractions must be > 0 and <= 1, got {fraction:g}")
    for given, flag in ((probes, "--probes"), (label_fractions, "--label_fractions")):
        if len(set(given)) < len(given):
            raise InputError(f"{flag} has the same value twice: {','.join(map(str, given))}")


def measure(
    probes: Sequence[str],
    train: LabelledFeatures,
    validation: LabelledFeatures | None,
    test: LabelledFeatures,
    classes: int,
    label_fractions: Sequence[float] = (1.0,),
    draws: int = 1,
) -> Iterator[dict[str, Any]]:
    """Probes the features of test images.

    A draw keeps the same share of the images of every class, at least one of each, as
    `data.label_fraction` does with the draw's number as the seed. All labels have one draw.

    Args:
      probes: of `PROBES`.
      train: of the images with labels.
      validation: of the images that the L2 of `linear` is chosen on; None without `linear`.
      test: of the images to classify.
      classes: their number.
      label_fractions: shares of the labels of `train`.
      draws: for each share below 1.

    Yields:
      A row for each probe, share, draw and number of neighbours: `probe`, `label_fraction`, `draw`,
      `labels` (their number), `k` or `l2`, and what `accuracies` returns.
    """
    for fraction in label_fractions:
        for draw in range(1 if fraction == 1 else draws):
            known = train.take(select(train.labels, fraction, draw)) if fraction < 1 else train
            about = {"label_fraction": fraction, "draw": draw, "labels": len(known.labels)}
            if "knn" in probes:
                votes = knn.votes(known.values, known.labels, test.values, classes)
                for count, scores in votes.items():
                    yield {"probe": "knn", **about, "k": count, **accuracies(scores, test.labels)}
            if "linear" in probes:
                assert validation is not None
                l2, scores = linear.probe(known, validation, test, classes)
                yield {"probe": "linear", **about, "l2": l2, **accuracies(scores, test.labels)}
