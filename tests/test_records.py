from __future__ import annotations

import io

import hypothesis
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssljax.data import images
from ssljax.data.records import NO_LABEL, open_records
from ssljax.data.sets import fashion_mnist_10k
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick


class Unlabelled(tfds.core.GeneratorBasedBuilder):
    """Images without labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(64, 64, 3))})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(8):
            file = io.BytesIO()
            Image.new("RGB", (64, 64), (index, 0, 0)).save(file, "PNG")
            yield index, {"image": io.BytesIO(file.getvalue())}


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("unlabelled"))
    Unlabelled(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_the_embedded_data_set_holds_the_files_of_the_package(data_dir):
    records = open_records("fashion_mnist_10k", "images", data_dir)
    embedded, labels = fashion_mnist_10k.read_idx()
    assert len(records) == 10_000
    expected = {image.tobytes(): label for image, label in zip(embedded, labels, strict=True)}
    for index in range(0, 10_000, 97):
        data, label = records[index]
        grey = np.asarray(images.decode(data))[..., 0]
        assert expected[grey.tobytes()] == label
    classes = np.bincount([records[index][1] for index in range(1000)], minlength=10)
    assert classes.min() > 60  # mixed, so that slices hold every class


def test_any_data_set_of_tfds_is_read_by_name(shared_tfds):
    records = open_records("fashion_mnist", "train[:10]+test[50%:]", shared_tfds)
    assert len(records) == 5010
    data, label = records[5009]
    assert images.decode(data).size == (28, 28)
    assert 0 <= label < 10
    assert records.class_names[9] == "Ankle boot"


def test_a_data_set_without_labels(unlabelled):
    records = open_records("unlabelled", "train", unlabelled)
    assert records.class_names == ()
    assert records[3][1] == NO_LABEL


@pytest.mark.parametrize(
    ("dataset", "split", "options", "said"),
    [
        ("fashion_mnst_10k", "images", {}, "no data set 'fashion_mnst_10k' is prepared in"),
        ("deep_fashion/slides", "train", {}, "prepare it with `python -m ssljax.prepare`"),
        ("fashion_mnist_10k", "train", {}, r"split 'train' of .*\['images'\].*10000"),
        ("fashion_mnist_10k", "images[5%", {}, "Unrecognized split format"),
        ("fashion_mnist_10k", "images[:0]", {}, "images"),
        ("fashion_mnist_10k", "images", {"image_key": "picture"}, "data.image_key.*'image'"),
        ("fashion_mnist_10k", "images", {"label_key": "lable"}, "data.label_key.*'label'"),
        ("a/b/c/d", "images", {}, "no data set 'a/b/c/d'"),
    ],
)
def test_what_is_not_there_is_named(data_dir, dataset, split, options, said):
    with pytest.raises(InputError, match=said):
        open_records(dataset, split, data_dir, **options)


def test_a_data_set_without_random_access_is_named(tmp_path):
    # Writing TFRecord needs TensorFlow; the description alone tells the format.
    Unlabelled(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    info = tmp_path / "unlabelled" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="prepare it with file_format='array_record'"):
        open_records("unlabelled", "train", str(tmp_path))


@given(st.integers(0, 100), st.integers(0, 100))
@hypothesis.settings(max_examples=15)
def test_slices_of_a_split_are_disjoint_and_leave_nothing_out(data_dir, one, other):
    low, high = sorted((one, other))
    whole = open_records("fashion_mnist_10k", "images", data_dir)
    start = 0
    for split in (f"images[:{low}%]", f"images[{low}%:{high}%]", f"images[{high}%:]"):
        try:
            part = open_records("fashion_mnist_10k", split, data_dir)
        except InputError as error:
            assert "has no examples" in str(error)  # noqa: PT017, the slice may be empty
            continue
        assert part[0] == whole[start]
        start += len(part)
        assert part[len(part) - 1] == whole[start - 1]
    assert start == len(whole)
