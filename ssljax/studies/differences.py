"""Which differences between methods are more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.special
from ml_collections import ConfigDict

from ssljax.files.packed_bits import unpacked
from ssljax.probes.table import of_protocol
from ssljax.studies import probing
from ssljax.studies.outcomes import Ended, Outcome
from ssljax.studies.plan import Cell

# By seed: for each draw of the labels and each test image, whether the answer is right.
Hits = dict[int, np.ndarray]


def interval(ours: Hits, theirs: Hits, confidence: float = 0.95) -> tuple[float, float, float]:
    """The difference between two accuracies on the same test images.

    Both have the same seeds, draws of the labels and images, so that their differences are what
    varies. The variance of the mean has a part for the images, which are a sample (the same as that
    of a bootstrap over them), one for the seeds, and one for the draws. With few seeds or draws
    these are not known well, and the interval is that of Student's t with Satterthwaite's degrees
    of freedom (Satterthwaite, 1946, "An Approximate Distribution of Estimates of Variance
    Components"). In simulations, 95 % intervals hold the truth in 94 to 97 % of all cases with five
    draws or five seeds, in 93 % with three seeds, and in 88 % with two.

    Args:
      ours: float[N] or float[D, N] by seed; of two or more images, and of D draws.
      theirs: as many, also by seed. Seeds that only one side has are left out.
      confidence: of the interval.

    Returns:
      The mean of `ours` less that of `theirs`, and the lower and the upper end of its interval,
      which is that of the images alone if there is one seed and one draw.
    """
    differences = np.array(
        [np.atleast_2d(ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
    )
    seeds, draws, images = differences.shape
    of_images = float(differences.mean(axis=(0, 1)).var(ddof=1)) / images
    few = [
        (float(differences.mean(axis=others).var(ddof=1)) / count, count - 1)
        for count, others in ((seeds, (1, 2)), (draws, (0, 2)))
        if count > 1
    ]
    variance, mean = of_images + sum(part for part, _ in few), float(differences.mean())
    level = (1 + confidence) / 2
    if uncertain := sum(part**2 / freedom for part, freedom in few):
        half = float(scipy.special.stdtrit(variance**2 / uncertain, level)) * math.sqrt(variance)
    else:
        half = float(scipy.special.ndtri(level)) * math.sqrt(variance)
    return mean, mean - half, mean + half


def collect(
    config: ConfigDict,
    pretexts: Mapping[str, Ended],
    done: Mapping[Cell, Ended],
    chosen: Mapping[tuple[str, float], str],
) -> list[dict[str, Any]]:
    """The differences of each method to random weights and to the best one.

    Args:
      config: of the study.
      pretexts: how the runs of each pretext task ended, by seed.
      done: how those of each cell ended.
      chosen: the setting of each arm at each share of the labels.

    Returns:
      Rows with `protocol` (`knn`, `linear` or `labels`: the arms), `label_fraction`, `name` (of a
      pretext task or an arm), `against` (`random` or the name of the best one), `is_floor` (whether
      that is random weights), `seeds` (how many), and `difference`, `low` and `high` in top-1.
    """
    rows = []
    for (protocol, fraction), found in _columns(config, pretexts, done, chosen):
        best, confidence = best_of({name: ours for name, (ours, _) in found.items()})
        others = {"random": 0.95, best: confidence}
        for name, (ours, floor) in found.items():
            for against, theirs in (("random", floor), (best, found[best][0])):
                if theirs and name != against and set(ours) & set(theirs):
                    difference, low, high = interval(ours, theirs, others[against])
                    rows.append(
                        {
                            "protocol": protocol,
                            "label_fraction": fraction,
                            "name": name,
                            "against": against,
                            "is_floor": theirs is floor,
                            "seeds": len(set(ours) & set(theirs)),
                            "difference": difference,
                            "low": low,
                            "high": high,
                        }
                    )
    return rows


def best_of(found: Mapping[str, Hits]) -> tuple[str, float]:
    """The best method, and the confidence of intervals of the differences to it.

    The best one is found by the same numbers. Therefore the intervals hold for all pairs of methods
    at once with a confidence of 95 %, by Bonferroni's correction.

    Args:
      found: the hits by method.
    """
    best = max(found, key=lambda name: np.mean([hits.mean() for hits in found[name].values()]))
    return best, 1 - 0.05 / max(1, math.comb(len(found), 2))


def is_noise(row: Mapping[str, Any]) -> bool:
    """Whether 0 is in the interval of a row of `collect`."""
    return bool(row["low"] <= 0 <= row["high"])


Column = tuple[tuple[str, float], dict[str, tuple[Hits, Hits]]]


def _columns(
    config: ConfigDict,
    pretexts: Mapping[str, Ended],
    done: Mapping[Cell, Ended],
    chosen: Mapping[tuple[str, float], str],
) -> Iterator[Column]:
    """A protocol with a share of the labels; by name the hits, and those of random weights."""
    for fraction in config.label_fractions:
        for protocol in config.probes:
            found = {}
            for name, ended in pretexts.items():
                random: Hits = {}
                for other in probing.same_network(config, name):
                    random |= _probed(pretexts[other], protocol, fraction, random=True)
                if ours := _probed(ended, protocol, fraction, random=False):
                    found[name] = (ours, random)
            if found:
                yield (protocol, fraction), found
        arms = {
            arm: _tested(done[Cell(arm, fraction, setting)])
            for (arm, share), setting in chosen.items()
            if share == fraction
        }
        starts = {name: config.arms[name].start for name in arms}
        random = next((arms[name] for name in arms if starts[name] == "random"), {})
        found = {name: (ours, random) for name, ours in arms.items() if starts[name] != "random"}
        if found:
            yield ("labels", fraction), found


def _tested(ended: Ended) -> Hits:
    return {
        seed: unpacked(run.test.hits, run.test.examples).astype(float)[None]
        for seed, run in enumerate(ended)
        if isinstance(run, Outcome)
    }


def _probed(ended: Ended, protocol: str, fraction: float, random: bool) -> Hits:
    """The hits of all draws of the labels, by seed."""
    found = {}
    for seed, run in enumerate(ended):
        if not isinstance(run, Outcome):
            continue
        hits = [
            unpacked(row["hits"], row["examples"])
            for row in of_protocol(run.probes, protocol, fraction)
            if (row["weights"] == "random") == random
        ]
        if hits:
            found[seed] = np.array(hits, float)
    return found
