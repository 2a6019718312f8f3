"""TFDS builder of DeepFashion's Category and Attribute Prediction Benchmark (Liu et al., 2016).

The JPEG bytes are written unchanged. There are two configurations:

* `slides`: within each category the first 70 % of its rows, in listing order and regardless of the
  partition, go to the pretext task and the rest to classification; each side keeps the official
  partition. Splits `pretext_train`, `pretext_validation`, `pretext_test`, `train`, `validation`,
  `test`.
* `official`: the three official partitions `train`, `validation`, `test`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from ssljax.data.sets.deep_fashion.lists import Listing, Photograph

NAME = "deep_fashion"
CONFIGS = ("slides", "official")
Progress = Callable[[Iterable[Photograph], str], Iterable[Photograph]]


class DeepFashion(tfds.core.GeneratorBasedBuilder):
    """Writes a checked listing. Reading needs no builder, see `ssljax.data.records`."""

    name = NAME
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="slides", description="70 % pretext, 30 % classification."),
        tfds.core.BuilderConfig(name="official", description="The official partitions."),
    ]

    def __init__(
        self,
        listing: Listing | None = None,
        skipped: Collection[str] = (),
        progress: Progress = lambda photographs, split: photographs,
        **kwargs: Any,
    ):
        """Makes a builder.

        Args:
          listing: what to write; None if the data set is prepared already.
          skipped: names of photographs to leave out.
          progress: wraps the photographs of each split while they are written.
          **kwargs: TFDS's own, such as config and data_dir.
        """
        self._listing = listing
        self._skipped = frozenset(skipped)
        self._progress = progress
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        names = None if self._listing is None else self._listing.class_names
        classes = {
            split: len({row.label for row in rows}) for split, rows in self._splits().items()
        }
        return self.dataset_info_from_configs(
            description="289,222 photographs of clothing with their category.",
            homepage="http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=names),
                    "filename": tfds.features.Text(),
                    "bbox": tfds.features.Tensor(
                        shape=(4,), dtype=np.int32, doc="x_1, y_1, x_2, y_2 in pixels, as listed"
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                classes_with_images=classes, skipped_images=sorted(self._skipped)
            ),
        )

    def _splits(self) -> dict[str, list[Photograph]]:
        if self._listing is None or self.builder_config is None:
            return {}
        return split_photographs(self._listing.photographs, self.builder_config.name, self._skipped)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        del dl_manager
        return {
            split: self._generate_examples(split, photographs)
            for split, photographs in self._splits().items()
        }

    def _generate_examples(
        self, split: str, photographs: list[Photograph]
    ) -> Iterator[tuple[str, dict]]:
        for photograph in self._progress(photographs, split):
            yield (
                photograph.name,
                {
                    "image": photograph.path,
                    "label": photograph.label,
                    "filename": photograph.name,
                    "bbox": photograph.bbox,
                },
            )


def named(name: str) -> type[DeepFashion]:
    """The builder under another name of the data set."""
    if name == NAME:
        return DeepFashion
    with tfds.core.registered.skip_registration():
        return type("NamedDeepFashion", (DeepFashion,), {"name": name})


def split_photographs(
    photographs: Iterable[Photograph], config: str, skipped: Collection[str] = ()
) -> dict[str, list[Photograph]]:
    """Divides the photographs among the splits of a configuration; empty splits are left out.

    The 70 % are counted over the whole listing, so that skipping a photograph moves no other one.
    """
    rows = list(photographs)
    count = collections.Counter(row.label for row in rows)
    seen: collections.Counter[int] = collections.Counter()
    splits: dict[str, list[Photograph]] = {}
    for row in rows:
        # ⌊0.7·n⌋ in integers, because a float product can be just below a whole number.
        pretext = config == "slides" and seen[row.label] < count[row.label] * 7 // 10
        seen[row.label] += 1
        if row.name not in skipped:
            splits.setdefault(f"{'pretext_' * pretext}{row.partition}", []).append(row)
    return splits
