"""Data sets that TFDS has prepared, as their files describe them.

TFDS's own way to open a data set imports the Python classes that its files name, and the builder of
its name. The files may come from a stranger, so nothing is imported here. Of a data set's features,
only images and class labels are looked at.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf import json_format
from tensorflow_datasets.core.proto import dataset_info_pb2, feature_pb2

from ssljax.data.sets import fashion_mnist_10k
from ssljax.files import storage, untrusted
from ssljax.settings.errors import InputError

_FEATURES = "features.json"
_LARGEST = 2**26  # bytes of a description
_MOST = 2**31 - 1  # records; their numbers are int32
_MOST_CLASSES = 10**6
_IMAGE = "tensorflow_datasets.core.features.image_feature.Image"
_CLASS_LABEL = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"


@dataclasses.dataclass(frozen=True)
class PreparedSet:
    """A prepared data set.

    Attributes:
      folder: where its files are.
      file_format: such as `array_record`.
      features: the names of all its features.
      images: the number of channels of each of its image features; 0 if it is not said.
      class_names: by label feature, one name for each class.
      splits: TFDS's splits by name, which also take split arithmetic.
      metadata: what was noted when it was prepared, such as `skipped_images`.
    """

    folder: pathlib.Path
    file_format: str
    features: tuple[str, ...]
    images: Mapping[str, int]
    class_names: Mapping[str, tuple[str, ...]]
    splits: Any
    metadata: Mapping[str, Any]


def open_prepared(dataset: str, data_dir: str = "", write: bool = True) -> PreparedSet:
    """Opens a prepared data set, without TensorFlow and without running code of its builder.

    The embedded data set is prepared if it is not there yet.

    Args:
      dataset: TFDS's name for it: `name`, `name/config` or `name/config:version`.
      data_dir: where it was prepared; empty is TFDS's own default, `$TFDS_DATA_DIR` or
        `~/tensorflow_datasets`.
      write: False writes nothing to data_dir; the embedded data set is then prepared in TFDS's
        default folder.

    Raises:
      InputError: no such data set was prepared there, or its files are damaged.
    """
    directory = str(storage.path(data_dir or default_folder(), "data.data_dir"))
    folder = _find(dataset, directory)
    embedded = dataset.split("/")[0].split(":")[0] == fashion_mnist_10k.NAME
    if folder is None and embedded and not storage.is_remote(directory):
        directory = directory if write else default_folder()
        folder = _find(dataset, directory)
        if folder is None:
            fashion_mnist_10k.prepare(directory)
            folder = _find(dataset, directory)
    if folder is None:
        raise InputError(
            f"data.dataset: no data set {dataset!r} is prepared in {directory}; prepare it with "
            f"`python -m ssljax.prepare` (deep_fashion), or with TFDS as array_record, "
            f"or set data.data_dir"
        )
    try:
        return _read(folder)
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError,
        json_format.Error,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())
        raise InputError(f"data.dataset: {folder} cannot be read: {said}") from error


def is_prepared(dataset: str, data_dir: str = "") -> bool:
    """Whether a data set is prepared in data_dir."""
    return _find(dataset, data_dir or default_folder()) is not None


def default_folder() -> str:
    """TFDS's default for data_dir."""
    return str(tfds.core.constants.DATA_DIR)


def _find(dataset: str, directory: str) -> pathlib.Path | None:
    """The folder of the newest version that fits; None if there is none."""
    try:
        name, options = tfds.core.naming.parse_builder_name_kwargs(dataset)
    except ValueError:
        return None
    config, version = options.pop("config", None), options.pop("version", None)
    if name.namespace or options:
        return None
    root = storage.path(directory, "data.data_dir") / name.name
    config = config or _default_config(root)
    folder = root / config if config else root
    for found in reversed(tfds.core.utils.version.list_all_versions(folder)):
        if (not version or found.match(version)) and (folder / str(found) / _FEATURES).exists():
            return folder / str(found)
    return None


def _default_config(root: pathlib.Path) -> str | None:
    try:
        text = _text(root / ".config", "metadata.json")
        return json.loads(text)["default_config_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _read(folder: pathlib.Path) -> PreparedSet:
    info = json_format.Parse(_text(folder, "dataset_info.json"), dataset_info_pb2.DatasetInfo())
    features = json_format.Parse(_text(folder, _FEATURES), feature_pb2.Feature())
    kinds = dict(features.features_dict.features)
    images = {
        name: _channels(feature)
        for name, feature in kinds.items()
        if feature.python_class_name == _IMAGE
    }
    class_names = {}
    for name, feature in kinds.items():
        if feature.python_class_name == _CLASS_LABEL:
            class_names[name] = _class_names(folder, name, feature.class_label.num_classes)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=info.name, filetype_suffix=info.file_format
    )
    splits = tfds.core.SplitDict.from_proto(info.splits, filename_template=template)
    for split in splits.values():
        for file in split.filepaths:
            if os.path.dirname(file) != str(folder):
                raise ValueError(f"its split {split.name} is in another folder: {file}")
        if not 0 <= split.num_examples <= _MOST:
            raise ValueError(f"its split {split.name} has {split.num_examples} records")
    noted = folder / "metadata.json"
    metadata = json.loads(_text(folder, noted.name)) if noted.exists() else {}
    if not isinstance(metadata, dict):
        raise ValueError("metadata.json holds no object")
    return PreparedSet(
        folder, info.file_format, tuple(kinds), images, class_names, splits, metadata
    )


def _text(folder: pathlib.Path, name: str) -> str:
    return untrusted.read_bytes(folder / name, _LARGEST).decode()


def _class_names(folder: pathlib.Path, name: str, count: int) -> tuple[str, ...]:
    if not 0 <= count <= _MOST_CLASSES:
        raise ValueError(f"its feature {name} has {count:,} classes, expected <= {_MOST_CLASSES:,}")
    label = tfds.features.ClassLabel(num_classes=count)
    for names in folder.glob("*.labels.txt"):
        untrusted.check_regular(names)
    label.load_metadata(folder, name.replace("/", "."))
    return tuple(label.names)


def _channels(feature: Any) -> int:
    shape = feature.image.shape.dimensions
    return int(shape[-1]) if shape and shape[-1] in (1, 3, 4) else 0
