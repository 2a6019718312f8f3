"""Fast decoding: of rows and of the whole, with and without a cache, in runs and in the library."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import ssljax
from ssljax.data import fast_images, images, pipeline
from ssljax.data.cache import open_images
from ssljax.data.image_source import ImageSource
from ssljax.data.records import open_records
from ssljax.methods import make_method
from ssljax.methods.method import DataSpec
from tests import jpeg_sampling, labelled_set

pytestmark = pytest.mark.quick


def square_of_rows(data, size, seed):
    """The square, and the next number of the random stream, which the method's draws use."""
    rng = np.random.default_rng(seed)
    out = np.zeros((size, size, 3), np.uint8)
    fast_images.square(data, rng, out)
    return out.tobytes(), rng.random()


def square_of_the_whole(data, size, seed):
    rng = np.random.default_rng(seed)
    out = np.zeros((size, size, 3), np.uint8)
    whole = fast_images.decode(data, size)
    fast_images.resize(whole, images.square_box(*images.dimensions(whole), rng), out)
    return out.tobytes(), rng.random()


@pytest.mark.parametrize("sampling", [jpeg_sampling.USUAL, *jpeg_sampling.UNUSUAL])
@pytest.mark.parametrize(("width", "height"), [(97, 193), (193, 97), (96, 96)])
def test_unusual_samplings_give_the_same_square(sampling, width, height):
    data = jpeg_sampling.encode(width, height, sampling, np.random.default_rng(0))
    images.decode(data)  # it is a valid JPEG
    for seed in range(10):
        assert square_of_rows(data, 24, seed) == square_of_the_whole(data, 24, seed)


def test_damaged_files_give_the_same_square_or_none():
    rng = np.random.default_rng(0)
    tiles = np.kron(rng.integers(0, 256, (5, 7, 3)), np.ones((16, 12, 1))).astype(np.uint8)
    refused = 0
    for seed in range(400):
        file = io.BytesIO()
        size = tuple(rng.integers(40, 200, 2).tolist())
        Image.fromarray(tiles).resize(size).save(file, "JPEG", subsampling=seed % 3)
        data = bytearray(file.getvalue())
        place = int(rng.integers(2, len(data) - 50))
        if seed % 2:
            data[place] = rng.integers(256)
        else:
            del data[place : place + int(rng.integers(1, 50))]
        found = []
        for square in (square_of_rows, square_of_the_whole):
            try:
                found.append(square(bytes(data), 32, seed))
            except images.ImageError:
                found.append(None)
        refused += found[0] is None
        assert found[0] == found[1]
    assert 10 < refused < 200


def test_a_file_without_its_tables_is_refused():
    """After a warning, simplejpeg passes on an error as if it had written the image."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    scan = data.index(b"\xff\xda")
    data[scan + 11] = 1  # a first coefficient of 1 is a warning
    data[scan + 10] = 0x33  # the last component's Huffman tables, which are not there
    for square in (square_of_rows, square_of_the_whole):
        with pytest.raises(images.ImageError):
            square(bytes(data), 32, 0)


def test_a_cache_changes_nothing_on_unusual_samplings(tmp_path):
    rng = np.random.default_rng(0)
    samplings = [jpeg_sampling.USUAL, *jpeg_sampling.UNUSUAL]
    files = {
        index: jpeg_sampling.encode(64 + index, 150, samplings[index % 5], rng)
        for index in range(20)
    }
    labelled_set.write(tmp_path, "photographs", [0] * 20, files=files)
    records = open_records("photographs", "images", str(tmp_path))
    draw = make_method({"name": "jigsaw", "grid": 2, "tile": 14}, DataSpec(28)).draw
    settings = {"batch_size": 4, "epochs": 3, "seed": 1, "train": True, "random_crop": True}
    for decoding in ("exact", "fast"):
        [kept] = open_images("ram", records, size=28, decoding=decoding)
        fresh = pipeline.batches(ImageSource(records, 28, decoding), draw, **settings)
        for left, right in zip(pipeline.batches(kept, draw, **settings), fresh, strict=True):
            jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.seconds
@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_a_loaded_run_decodes_as_it_was_trained(classification_run, tmp_path, decoding):
    run = tmp_path / "run"
    shutil.copytree(classification_run, run)
    config = json.loads((run / "config.json").read_text())
    config["data"]["decoding"] = decoding
    (run / "config.json").write_text(json.dumps(config))
    model = ssljax.load_run(run)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 200, 3), np.uint8)
    lossless = io.BytesIO()
    Image.fromarray(pixels).save(lossless, "PNG")
    photograph = jpeg_sampling.encode(333, 301, jpeg_sampling.USUAL, rng)
    labelled_set.write(tmp_path, "mine", [0, 0], files={0: photograph, 1: lossless.getvalue()})
    source = ImageSource(open_records("mine", "images", str(tmp_path)), 64, decoding)
    evaluated = np.zeros((2, 64, 64, 3), np.uint8)
    for index, (data, _) in enumerate(source.read([0, 1])):
        source.square(data, None, evaluated[index])
    expected = model.outputs(list(evaluated))  # these have the right size already
    given = [photograph, lossless.getvalue(), pixels, Image.fromarray(pixels)]
    np.testing.assert_allclose(model.outputs(given), expected[[0, 1, 1, 1]], rtol=1e-5, atol=1e-6)


HOST = """
import sys, threading
import cv2
from PIL import Image
cv2.setNumThreads(3)
import ssljax
ssljax.load_run, ssljax.train_config
from ssljax.data import fast_images, images
failed = []
def decode(data):
    try:
        fast_images.decode(data)
    except images.ImageError as error:
        failed.append(error)
threads = [threading.Thread(target=decode, args=[open(sys.argv[1], "rb").read()]) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
decode(b"no image")
assert len(failed) == 1, failed
assert cv2.getNumThreads() == 3
assert "WEBP" in Image.ID and not {"EPS", "ICO", "PDF"} & set(Image.ID), Image.ID
"""


def test_the_settings_of_a_host_process_stay_as_they_are(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "image.webp")
    subprocess.run([sys.executable, "-c", HOST, str(tmp_path / "image.webp")], check=True)
