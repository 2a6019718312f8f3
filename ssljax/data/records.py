"""The records of a prepared data set: encoded images with their labels.

A data set is one that TFDS has prepared as ArrayRecord. Reading it needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from ssljax.data.array_record import ArrayRecordFiles
from ssljax.data.labels import part_labels
from ssljax.data.sets import fashion_mnist_10k
from ssljax.files import storage
from ssljax.settings.errors import InputError

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a prepared data set.

    Attributes:
      name: for messages, such as `fashion_mnist, split train`.
      class_names: one name for each label; empty if the data set has no labels.
      source: serialised `tf.train.Example`s.
      image_key: the name of the image feature.
      label_key: the name of the label feature.
      chosen: int[N], the records of the source that belong to the split; None: all of them.
    """

    name: str
    class_names: tuple[str, ...]
    source: ArrayRecordFiles
    image_key: str
    label_key: str
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source if self.chosen is None else self.chosen)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """The bytes of the image file, and the label or -1."""
        return self.read([index])[0]

    def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        """The bytes of the image files, and the labels or -1, of several records."""
        if self.chosen is not None:
            indices = [int(self.chosen[index]) for index in indices]
        return [self._parse(self.source[index]) for index in indices]

    def labels(self) -> np.ndarray:
        """int64[N]: the label of every record, or -1; reads no images after the first call."""
        if not self.class_names:
            return np.full(len(self), NO_LABEL)
        labels = np.concatenate(
            [
                part_labels(part, self.label_key, lambda record: self._parse(record)[1])
                for part in self.source.parts
            ]
        )
        return labels if self.chosen is None else labels[self.chosen]

    def _parse(self, example: bytes) -> tuple[bytes, int]:
        # TFDS's own parser looks at every feature and takes ten times as long.
        features = tf_example_pb2.Example.FromString(example).features.feature
        label = features[self.label_key].int64_list.value if self.class_names else ()
        return features[self.image_key].bytes_list.value[0], label[0] if label else NO_LABEL


def open_builder(dataset: str, data_dir: str = "") -> tfds.core.DatasetBuilder:
    """Opens a prepared TFDS data set, without TensorFlow and without running its builder's code.

    Args:
      dataset: TFDS's name for it: `name`, `name/config` or `name/config:version`.
      data_dir: where it was prepared; empty is TFDS's own default, `$TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.

    Raises:
      InputError: no such data set was prepared there.
    """
    directory = data_dir or str(tfds.core.constants.DATA_DIR)
    if storage.is_remote(directory):
        storage.path(directory, "data.data_dir")  # raises if it cannot be used
    elif dataset.split("/")[0].split(":")[0] == fashion_mnist_10k.NAME:
        fashion_mnist_10k.prepare(directory)
    try:
        return _from_files(dataset, directory)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"data.dataset: no data set {dataset!r} is prepared in {directory}; prepare it with "
            f"`python -m ssljax.prepare` (deep_fashion), or with TFDS as array_record, "
            f"or set data.data_dir"
        ) from error


def is_prepared(dataset: str, data_dir: str = "") -> bool:
    """Whether a data set is prepared in data_dir."""
    try:
        _from_files(dataset, data_dir or str(tfds.core.constants.DATA_DIR))
    except tfds.core.registered.DatasetNotFoundError:
        return False
    return True


def _from_files(dataset: str, directory: str) -> tfds.core.DatasetBuilder:
    name, kwargs = tfds.core.naming.parse_builder_name_kwargs(dataset, data_dir=directory)
    return tfds.core.read_only_builder.builder_from_files(str(name), **kwargs)


def open_records(
    dataset: str, split: str, data_dir: str = "", image_key: str = "image", label_key: str = "label"
) -> Records:
    """Opens one split of a prepared data set.

    Args:
      dataset: see `open_builder`.
      split: TFDS's split arithmetic, such as `train[:70%]` or `train+validation`.
      data_dir: see `open_builder`.
      image_key: the name of the image feature.
      label_key: the name of the label feature; a data set without `label` has no labels.

    Raises:
      InputError: unknown data set or split, an empty split, one without images, or one that was
        not prepared as ArrayRecord.
    """
    builder = open_builder(dataset, data_dir)
    where = f"{dataset}, split {split}"
    features = builder.info.features
    _check_feature("data.image_key", dataset, features, image_key, tfds.features.Image)
    if label_key != "label" or label_key in features:
        _check_feature("data.label_key", dataset, features, label_key, tfds.features.ClassLabel)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(
            f"data.dataset: {dataset} is prepared as {builder.info.file_format}, which has no "
            "random access; prepare it with file_format='array_record'"
        )
    try:
        source = ArrayRecordFiles(builder.info.splits[split].file_instructions)
    except (ValueError, KeyError, AssertionError) as error:
        known = {name: info.num_examples for name, info in builder.info.splits.items()}
        said = " ".join(str(error).split())
        raise InputError(f"split {split!r} of {dataset}: {said} (prepared: {known})") from error
    if not len(source):
        raise InputError(f"{where} has no examples")
    names = tuple(features[label_key].names) if label_key in features else ()
    return Records(where, names, source, image_key, label_key)


def keep_labels(dataset: str, data_dir: str = "") -> None:
    """Writes the labels of a prepared data set next to its records, see `ssljax.data.labels`."""
    for split in open_builder(dataset, data_dir).info.splits:
        open_records(dataset, split, data_dir).labels()


def _check_feature(setting: str, dataset: str, features: Any, key: str, kind: type) -> None:
    if key not in features or not isinstance(features[key], kind):
        fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
        raise InputError(
            f"{setting}: {dataset} has no {kind.__name__} feature {key!r}, but {fitting}"
        )
