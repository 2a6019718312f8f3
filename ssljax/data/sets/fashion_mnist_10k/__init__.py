"""The embedded data set: the 10,000 test images of Fashion-MNIST, which come with the package.

They let a new machine train on real images without a download. There is one split, `images`, in an
order that mixes the classes; TFDS's split arithmetic divides it (`images[:60%]`).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from ssljax.data import beside
from ssljax.data.array_record import Part
from ssljax.data.digests import digest
from ssljax.files.new_folder import new_folder

NAME = "fashion_mnist_10k"
_FOLDER = pathlib.Path(__file__).parent
_IMAGES = 10_000


class FashionMnist10k(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the embedded data set."""

    name = NAME
    VERSION = tfds.core.Version("1.0.0")
    digests: dict[bytes, int]  # of the images by the bytes of their files, once they are generated

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="The 10,000 test images of Fashion-MNIST, 28×28 grey, 10 classes.",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            license="MIT, Zalando SE",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(
                        names=[
                            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
                        ]
                    ),
                }
            ),
            supervised_keys=("image", "label"),
        )  # fmt: skip

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager
        return {"images": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        images, labels = read_idx()
        self.digests = {}
        for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            file.seek(0)
            data = file.getvalue()
            self.digests[data] = digest(data, np.repeat(pixels[..., None], 3, axis=2))
            yield index, {"image": file, "label": int(label)}


def read_idx() -> tuple[np.ndarray, np.ndarray]:
    """The embedded files as uint8[10000, 28, 28] images and uint8[10000] labels."""
    with gzip.open(_FOLDER / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(_FOLDER / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def prepare(data_dir: str) -> None:
    """Writes the data set as ArrayRecord to data_dir, unless it is there already.

    Raises:
      InputError: the folder cannot be written.
    """
    target = pathlib.Path(data_dir, NAME, str(FashionMnist10k.VERSION))
    if target.exists():
        return
    tfds.disable_progress_bar()
    with new_folder(target) as scratch:
        builder = FashionMnist10k(data_dir=scratch / "tfds", file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False, register_checksums=False)
        # TFDS needs a folder for downloads and announces it, although nothing is downloaded.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=scratch / "none", download_config=config)
        for path in pathlib.Path(builder.data_dir).iterdir():
            path.rename(scratch / "data" / path.name)
        [file] = (scratch / "data").glob("*.array_record*")
        _keep_digests(str(file), builder.digests)


def _keep_digests(filename: str, digests: dict[bytes, int]) -> None:
    """Keeps the digests beside the records, whose order is not that of the embedded files."""

    def of_record(record: bytes) -> int:
        features = tf_example_pb2.Example.FromString(record).features.feature
        return digests[features["image"].bytes_list.value[0]]

    beside.part_values(Part(filename, 0, _IMAGES), "digest", of_record)
