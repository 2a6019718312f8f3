"""The records of a prepared data set: encoded images with their labels.

A data set is one that TFDS has prepared as ArrayRecord. Reading it needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from ssljax.data.array_record import ArrayRecordFiles
from ssljax.data.beside import are_kept, at_hand, part_values
from ssljax.data.digests import digest
from ssljax.data.images import ImageError
from ssljax.data.prepared import open_prepared
from ssljax.settings.errors import InputError

NO_LABEL = -1
_FILE_NAMES = ("filename", "file_name", "image/filename")  # features with the name of the file


@dataclasses.dataclass(frozen=True)
class Records:
    """One split of a prepared data set.

    Attributes:
      name: for messages, such as `fashion_mnist, split train`.
      class_names: one name for each label; empty if the data set has no labels.
      source: serialised `tf.train.Example`s.
      image_key: the name of the image feature.
      label_key: the name of the label feature.
      channels: of the images as they are stored, 1, 3 or 4; 0 if the data set does not say.
      write: whether labels may be kept beside the records.
      needs_labels: whether a record without a label of one of the classes is an error.
      chosen: int[N], the records of the source that belong to the split; None: all of them.
    """

    name: str
    class_names: tuple[str, ...]
    source: ArrayRecordFiles
    image_key: str
    label_key: str
    channels: int = 0
    write: bool = True
    needs_labels: bool = False
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source if self.chosen is None else self.chosen)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        """The bytes of the image file, and the label or -1."""
        return self.read([index])[0]

    def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        """The bytes of the image files, and the labels or -1, of several records.

        Raises:
          InputError: a record is damaged, or has no label although they are needed.
        """
        found = []
        for index in indices:
            try:
                image, label = self._parse(self._example(index))
            except (DecodeError, IndexError) as error:
                raise InputError(f"{self.name}: record {index} holds no image") from error
            if not 0 <= label < len(self.class_names):
                if self.needs_labels:
                    raise InputError(f"{self.name}: {self._unusable(index, label)}")
                label = NO_LABEL
            found.append((image, label))
        return found

    def labelled(self) -> Records:
        """The same records for a method that needs the label of each.

        Labels that are kept beside the records, or can be, are checked here; others are checked
        when they are read.

        Raises:
          InputError: a record has no label, or one that is not among the classes.
        """
        if all(at_hand(part, self.label_key, self.write) for part in self.source.parts):
            labels = self.labels()
            bad = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
            if len(bad):
                raise InputError(
                    f"{self.name}: {len(bad):,} of {len(self):,} labels cannot be used: "
                    f"{self._unusable(bad[0], labels[bad[0]])}; name a split with labels"
                )
        return dataclasses.replace(self, needs_labels=True)

    def _unusable(self, index: int, label: int) -> str:
        has = "no label (-1)" if label == NO_LABEL else f"the label {label}"
        return (
            f"{self.where(index)} has {has}, and the classes are 0 to {len(self.class_names) - 1}"
        )

    def labels(self) -> np.ndarray:
        """int64[N]: the label of every record as it is stored, or -1.

        It reads no images after the first call, if the labels can be kept beside the records.
        """
        if not self.class_names:
            return np.full(len(self), NO_LABEL)
        labels = np.concatenate(
            [
                part_values(part, self.label_key, self._label, self.write)
                for part in self.source.parts
            ]
        )
        return labels if self.chosen is None else labels[self.chosen]

    def has_labels(self) -> bool:
        """Whether the labels can be had without reading all images."""
        return not self.class_names or all(
            are_kept(part, self.label_key) for part in self.source.parts
        )

    def digests(self) -> np.ndarray:
        """int64[N]: the digest of every image, see `ssljax.data.digests`.

        It reads no images after the first call, if the digests can be kept beside the records.

        Raises:
          InputError: an image cannot be decoded.
        """
        found = np.concatenate(
            [part_values(part, "digest", self._digest, self.write) for part in self.source.parts]
        )
        return found if self.chosen is None else found[self.chosen]

    def has_digests(self) -> bool:
        """Whether the digests can be had without reading all images."""
        return all(are_kept(part, "digest") for part in self.source.parts)

    def _digest(self, example: bytes) -> int:
        try:
            return digest(self._parse(example)[0])
        except ImageError as error:
            raise InputError(f"{self.name}: an image cannot be decoded: {error}") from error

    def where(self, index: int) -> str:
        """A record for messages: its number, and the name of its file if the data set has it."""
        name = self.file_name(index)
        return f"record {index} ({name!r})" if name else f"record {index}"

    def file_name(self, index: int) -> str:
        """The name of the image's file, as it was when the data set was prepared; may be empty."""
        features = tf_example_pb2.Example.FromString(self._example(index)).features.feature
        for key in _FILE_NAMES:
            if key in features and features[key].bytes_list.value:
                return features[key].bytes_list.value[0].decode(errors="replace")
        return ""

    def _example(self, index: int) -> bytes:
        return self.source[index if self.chosen is None else int(self.chosen[index])]

    def _label(self, example: bytes) -> int:
        return self._parse(example)[1]

    def _parse(self, example: bytes) -> tuple[bytes, int]:
        # TFDS's own parser looks at every feature and takes ten times as long.
        features = tf_example_pb2.Example.FromString(example).features.feature
        label = features[self.label_key].int64_list.value if self.class_names else ()
        return features[self.image_key].bytes_list.value[0], label[0] if label else NO_LABEL


def open_records(
    dataset: str,
    split: str,
    data_dir: str = "",
    image_key: str = "image",
    label_key: str = "label",
    write: bool = True,
) -> Records:
    """Opens one split of a prepared data set.

    Args:
      dataset: see `open_prepared`.
      split: TFDS's split arithmetic, such as `train[:70%]` or `train+validation`.
      data_dir: see `open_prepared`.
      image_key: the name of the image feature.
      label_key: the name of the label feature; a data set without `label` has no labels.
      write: False writes nothing to data_dir.

    Raises:
      InputError: unknown data set or split, an empty split, one without images, or one that was
        not prepared as ArrayRecord.
    """
    prepared = open_prepared(dataset, data_dir, write)
    where = f"{dataset}, split {split}"
    names = prepared.class_names
    _check_feature("data.image_key", dataset, "Image", image_key, prepared.images)
    if label_key != "label" or label_key in prepared.features:
        _check_feature("data.label_key", dataset, "ClassLabel", label_key, names)
    if prepared.file_format != "array_record":
        raise InputError(
            f"data.dataset: {dataset} is prepared as {prepared.file_format}, which has no "
            "random access; prepare it with file_format='array_record'"
        )
    try:
        source = ArrayRecordFiles(prepared.splits[split].file_instructions)
    except (ValueError, KeyError, AssertionError) as error:
        known = {name: info.num_examples for name, info in prepared.splits.items()}
        said = " ".join(str(error).split())
        raise InputError(f"split {split!r} of {dataset}: {said} (prepared: {known})") from error
    if not len(source):
        raise InputError(f"{where} has no examples")
    classes, channels = names.get(label_key, ()), prepared.images[image_key]
    return Records(where, classes, source, image_key, label_key, channels, write)


def _check_feature(
    setting: str, dataset: str, kind: str, key: str, fitting: Collection[str]
) -> None:
    if key not in fitting:
        raise InputError(f"{setting}: {dataset} has no {kind} feature {key!r}, but {list(fitting)}")
