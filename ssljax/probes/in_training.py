"""Probes during training, on some of the training and the validation images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.data.image_source import ImageSource
from ssljax.data.records import open_records
from ssljax.data.subset import label_fraction
from ssljax.probes import PROBES, knn, linear
from ssljax.probes.accuracy import accuracies
from ssljax.probes.features import extract
from ssljax.runs.feature_extraction import FeatureExtractor
from ssljax.runs.run import Run
from ssljax.settings.errors import InputError


class TrainingProbes:
    """What `config.probes` asks for; they change nothing of the training."""

    def __init__(self, run: Run, steps_per_epoch: int, total_steps: int):
        """Opens the images, if there is a probe.

        Raises:
          InputError: an image has no label.
        """
        probes = run.config.probes
        self._run, self._total = run, total_steps
        self._every = {
            name: probes[name].every_epochs * steps_per_epoch
            for name in PROBES
            if probes[name].every_epochs
        }
        if self._every:
            data = run.config.data
            self._train = self._open(data.train_split, probes.train_images)
            self._validation = self._open(data.validation_split, probes.validation_images)

    def due(self, step: int, found: Collection[str] = ()) -> tuple[str, ...]:
        """The probes that follow a step.

        Args:
          step: from 0; nothing follows the start.
          found: names of metrics that are there already.
        """
        return tuple(
            name
            for name, every in self._every.items()
            if step and (step % every == 0 or step == self._total) and f"{name}_top1" not in found
        )

    def metrics(
        self, names: Sequence[str], weights: Mapping[str, Any], stop: Callable[[], None]
    ) -> dict[str, float]:
        """The top-1 accuracies of probes.

        Training images are the ones with labels. Validation images are classified, by `linear`
        every second one, because its L2 is chosen on the others.

        Args:
          names: from `due`.
          weights: see `ssljax.training.state.TrainState.weights`.
          stop: called after every batch; it raises to end early.

        Returns:
          `knn_top1`, with `knn.SHOWN` neighbours, and `linear_top1`.

        Raises:
          Diverged: the features are not finite.
        """
        placed = self._extractor.place(weights["params"], weights["stats"])
        known, asked = (
            extract(self._extractor, placed, images, stop)
            for images in (self._train, self._validation)
        )
        classes = len(self._train.records.class_names)
        found = {}
        if "knn" in names:
            votes = knn.votes(known.values, known.labels, asked.values, classes, (knn.SHOWN,))
            found["knn_top1"] = accuracies(votes[knn.SHOWN], asked.labels)["top1"]
        if "linear" in names:
            places = np.arange(len(asked.labels))
            chosen_on, reported = asked.take(places[::2]), asked.take(places[1::2])
            _, scores = linear.probe(known, chosen_on, reported, classes)
            found["linear_top1"] = accuracies(scores, reported.labels)["top1"]
        return found

    @functools.cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self._run)

    def _open(self, split: str, most: int) -> ImageSource:
        data = self._run.config.data
        records = open_records(
            data.dataset, split, data.data_dir, data.image_key, data.label_key, self._run.own_data
        )
        if not records.class_names:
            raise InputError(f"probes: {records.name} has no labels; probes need them")
        share = min(1.0, most / len(records))
        some = label_fraction(records.labelled(), share, seed=0)
        return ImageSource(some, self._run.method.image_size, data.decoding)
