"""Writes small data sets with any labels, as files that TFDS would have prepared."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

FEATURES = "tensorflow_datasets.core.features"


def write(
    data_dir: str | pathlib.Path,
    name: str,
    labels: Sequence[int | None],
    classes: int = 10,
    files: dict[int, bytes | None] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Writes one split, `images`, of random grey images.

    Args:
      data_dir: TFDS's directory.
      name: of the data set.
      labels: of the records; None leaves the label out.
      classes: the number of classes.
      files: other bytes for the images of some records; None leaves the image out.
      names: the feature `filename` of the records; empty leaves it out.
    """
    folder = pathlib.Path(data_dir, name, "1.0.0")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    file = f"{name}-images.array_record-00000-of-00001"
    examples = []
    for index, label in enumerate(labels):
        image = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(image, "PNG")
        data = (files or {}).get(index, image.getvalue())
        examples.append(example(data, label, names[index] if names else None))
    write_records(folder / file, examples)
    split = {
        "name": "images", "shardLengths": [str(len(labels))], "numBytes": "1",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }  # fmt: skip
    info = {"name": name, "version": "1.0.0", "fileFormat": "array_record", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features = {
        "image": {
            "pythonClassName": f"{FEATURES}.image_feature.Image",
            "image": {"dtype": "uint8", "shape": {"dimensions": ["32", "32", "1"]}},
        },
        "label": {
            "pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(classes)},
        },
    }
    (folder / "features.json").write_text(json.dumps({
        "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }))  # fmt: skip


def example(image: bytes | None, label: int | None, name: str | None) -> bytes:
    """A record with those of the features that are not None."""
    made = tf_example_pb2.Example()
    features = made.features.feature
    if image is not None:
        features["image"].bytes_list.value.append(image)
    if label is not None:
        features["label"].int64_list.value.append(label)
    if name is not None:
        features["filename"].bytes_list.value.append(name.encode())
    return made.SerializeToString()


def write_records(path: pathlib.Path, records: Sequence[bytes]) -> None:
    """Writes an ArrayRecord file."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
