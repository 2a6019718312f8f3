"""Which differences between methods are noise, against SciPy's bootstrap and tests."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from ssljax.report import difference_tables
from ssljax.studies import differences

pytestmark = pytest.mark.quick


def hits(rng, seeds, images, share):
    return {seed: (rng.random(images) < share).astype(float) for seed in range(seeds)}


def test_one_seed_has_the_interval_of_a_paired_bootstrap_over_images():
    rng = np.random.default_rng(0)
    ours = hits(rng, 1, 2000, 0.7)
    # They agree on most images, so that the difference is known better than each accuracy.
    theirs = {0: np.where(rng.random(2000) < 0.9, ours[0], rng.random(2000) < 0.5)}
    mean, low, high = differences.interval(ours, theirs)
    assert mean == pytest.approx(ours[0].mean() - theirs[0].mean())
    found = scipy.stats.bootstrap(
        (ours[0] - theirs[0],), np.mean, n_resamples=20_000, rng=np.random.default_rng(1),
        method="percentile",
    )  # fmt: skip
    bootstrap = found.confidence_interval
    assert (low, high) == pytest.approx((bootstrap.low, bootstrap.high), abs=4e-4)
    unpaired = 2 * 1.96 * np.sqrt(ours[0].var() / 2000 + theirs[0].var() / 2000)
    assert high - low < 0.6 * unpaired


def test_seeds_that_vary_much_have_the_interval_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    images = 200_000  # so many that they add nothing
    ours = {seed: np.full(images, share) for seed, share in enumerate((0.7, 0.9, 0.8))}
    theirs = {seed: np.full(images, share) for seed, share in enumerate((0.65, 0.8, 0.79))}
    ours[0] = ours[0] + rng.normal(0, 1e-9, images)
    found = scipy.stats.ttest_rel([0.7, 0.9, 0.8], [0.65, 0.8, 0.79]).confidence_interval(0.95)
    _, low, high = differences.interval(ours, theirs)
    assert (low, high) == pytest.approx((found.low, found.high), rel=1e-5)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds):
    """Accuracies vary with the seed and with the image, which all seeds share."""
    rng = np.random.default_rng(seeds)
    inside, trials = 0, 400
    for _ in range(trials):
        hard = rng.normal(0, 1, 400)
        ours, theirs = (
            {
                seed: (hard + rng.normal(0, 1, 400) + (rng.normal(0, 0.2) if seeds > 1 else 0) > 0)
                * 1.0
                for seed in range(seeds)
            }
            for _ in range(2)
        )
        _, low, high = differences.interval(ours, theirs)
        inside += low <= 0 <= high
    assert 0.9 < inside / trials < 0.995


@pytest.mark.parametrize(
    ("seeds", "least", "most", "said"),
    [
        (1, 0.1, 0.6, "does not hold the variation between seeds. Bold may therefore be chance"),
        (2, 0.75, 0.91, "two seeds hardly tell how much seeds vary. Bold may therefore be chance"),
        (3, 0.91, 0.98, "Of twenty differences to random weights that are none, one is expected"),
    ],
)
def test_the_page_says_how_often_bold_is_chance(seeds, least, most, said):
    """Accuracies vary with the seed, and the test images are many."""
    rng = np.random.default_rng(seeds)
    inside, trials = 0, 400
    for _ in range(trials):
        hard = rng.normal(0, 1, 2000)
        ours, theirs = (
            {
                seed: (hard + rng.normal(0, 1, 2000) + rng.normal(0, 0.2) > 0) * 1.0
                for seed in range(seeds)
            }
            for _ in range(2)
        )
        difference, low, high = differences.interval(ours, theirs)
        inside += low <= 0 <= high
    assert least < inside / trials < most
    row = {
        "protocol": "labels", "label_fraction": 1.0, "name": "puzzle", "against": "random",
        "is_floor": True, "seeds": seeds, "difference": difference, "low": low, "high": high,
    }  # fmt: skip
    text = "".join(difference_tables.section({"differences": [row, {**row, "seeds": 5}]}))
    assert said in text
    assert ("one of twenty cases. The best" in text) == (seeds < 3)
    assert ("one is expected to be bold" in text) == (seeds >= 3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_know_of_the_draws_of_the_labels(seeds):
    """Each method's accuracy varies with the draw, which all seeds share."""
    rng = np.random.default_rng(seeds)
    inside = of_one_draw = 0
    for _ in range(200):
        hard = rng.normal(0, 1, 400)

        def hits(hard=hard):
            draws = rng.normal(0, 0.2, (5, 1))
            return {
                seed: (hard + draws + rng.normal(0, 1, (5, 400)) > 0) * 1.0 for seed in range(seeds)
            }

        ours, theirs = hits(), hits()
        _, low, high = differences.interval(ours, theirs)
        inside += low <= 0 <= high
        first = [{seed: part[seed][0] for seed in part} for part in (ours, theirs)]
        _, low, high = differences.interval(*first)
        of_one_draw += low <= 0 <= high
    assert 0.9 < inside / 200 < 0.995
    assert of_one_draw / 200 < 0.8  # a single draw does not tell


def test_few_columns_of_equal_methods_have_one_that_is_worse_than_the_best():
    rng = np.random.default_rng(0)
    worse = uncorrected = 0
    for _ in range(200):
        hard = rng.normal(0, 1, 400)
        found = {
            name: {0: (hard + rng.normal(0, 1, 400) > 0).astype(float)[None]} for name in range(8)
        }
        best, confidence = differences.best_of(found)
        for level in (confidence, 0.95):
            ends = [
                differences.interval(found[name], found[best], level)[2]
                for name in found
                if name != best
            ]
            if level == 0.95:
                uncorrected += min(ends) < 0
            else:
                worse += min(ends) < 0
    assert worse / 200 < 0.1
    assert uncorrected / 200 > 0.3


def test_only_seeds_of_both_sides_count():
    rng = np.random.default_rng(0)
    ours, theirs = hits(rng, 3, 50, 0.5), hits(rng, 3, 50, 0.5)
    expected = differences.interval({1: ours[1]}, {1: theirs[1]})
    del ours[0], theirs[2]
    assert differences.interval(ours, theirs) == expected


def test_no_difference_is_noise():
    same = {0: np.array([1.0, 0.0, 1.0])}
    _, low, high = differences.interval(same, same)
    assert (low, high) == (0, 0)
    assert differences.is_noise({"low": low, "high": high})
    assert not differences.is_noise({"low": 0.01, "high": 0.02})
