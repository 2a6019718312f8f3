"""Whole images for methods that make views, from files to the training step."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssljax.data import images, pipeline
from ssljax.data.cache import open_images
from ssljax.data.image_source import ImageSource
from ssljax.data.readers import reader_processes
from ssljax.data.records import open_records
from ssljax.methods import METHODS, make_method
from ssljax.methods.method import DataSpec, default_canvas
from ssljax.report.network_inputs import training_batch
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.progress import opening
from ssljax.training.training_records import training_records
from tests import agree, jpeg_sampling, labelled_set

SIDE = 24
DRAW = make_method({"name": "jigsaw", "grid": 2, "tile": 12}, DataSpec(24)).draw
SIZES = [(97, 193), (60, 31), (24, 24), (150, 150), (200, 40), (16, 30)]  # width, height


@pytest.fixture(scope="module", autouse=True)
def method():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "agree", agree.Agree)
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images of several sizes and formats: JPEG, PNG, and JPEG with an EXIF rotation."""
    rng = np.random.default_rng(0)
    files = {}
    for index, (width, height) in enumerate(SIZES):
        file = io.BytesIO()
        pixels = np.kron(rng.integers(0, 256, (5, 7, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        image = Image.fromarray(pixels).resize((width, height))
        if index == 1:
            image.save(file, "PNG")
        elif index == 4:
            exif = Image.Exif()
            exif[0x0112] = 6  # a quarter turn
            image.save(file, "JPEG", exif=exif)
        else:
            file = io.BytesIO(jpeg_sampling.encode(width, height, jpeg_sampling.USUAL, rng))
        files[index] = file.getvalue()
    folder = tmp_path_factory.mktemp("photographs")
    labelled_set.write(folder, "photographs", [0] * len(SIZES), files=files)
    return open_records("photographs", "images", str(folder))


def read(source, **settings):
    given = {"batch_size": 3, "epochs": 2, "seed": 1, "train": True, "random_crop": True}
    return list(pipeline.batches(source, DRAW, **given | settings))


@pytest.mark.quick
@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_a_canvas_is_the_whole_image_with_its_height_and_width(photographs, decoding):
    source = ImageSource(photographs, SIDE, decoding, whole=True)
    for batch in read(source):
        for row, record in enumerate(batch["record"]):
            data, _ = photographs[int(record)]
            image = images.decode(data)
            assert (batch["width"][row], batch["height"][row]) == image.size
            expected = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), int)
            if decoding == "exact":
                np.testing.assert_array_equal(batch["image"][row], expected)
            else:  # not antialiased, and JPEGs are decoded at a fraction of their size
                assert np.abs(batch["image"][row] - expected).mean() < 25
    turned = SIZES[4]
    batch = next(b for b in read(source) if 4 in b["record"])
    row = list(batch["record"]).index(4)
    assert (batch["height"][row], batch["width"][row]) == turned


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_caches_threads_and_reader_processes_change_nothing(photographs, decoding):
    source = ImageSource(photographs, SIDE, decoding, whole=True)
    expected = read(source, threads=0)
    assert expected[0]["height"].dtype == expected[0]["width"].dtype == np.int32
    [kept] = open_images("ram", photographs, size=SIDE, decoding=decoding, whole=True)
    assert kept.estimated_bytes() == len(SIZES) * SIDE * SIDE * 3
    processes = reader_processes.shared(1)
    settings = {"workers": 1}
    ways = [read(source), read(kept), read(kept), read(source, **settings)]
    while not processes.up:  # until then the caller reads by itself
        list(read(source, **settings))
    ways.append(read(source, **settings))
    for found in ways:
        for left, right in zip(found, expected, strict=True):
            assert left.keys() == right.keys()
            jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def run(make_config):
    config = make_config("agree,small_net").copy_and_resolve_references().unlock()
    config.data.image_size, config.data.canvas, config.batch_size = 16, 20, 8
    config.data.train_split, config.data.validation_split = "images[:16]", "images[20:24]"
    return open_run(resolve(config))


def test_a_preview_shows_what_the_training_step_gets(run, tmp_path):
    assert run.method.delivered_size == 20
    layout = run.layout(4)
    assert layout["image"][0] == (4, 20, 20, 3)
    assert layout["height"] == ((4,), np.dtype(np.int32))
    agree.SEEN.clear()
    train(run.config, tmp_path / "run")
    jax.effects_barrier()
    records = training_records(run)
    for epoch in (0, 1):
        _, views = training_batch(run, records, epoch, 16)
        for record in range(1, 16):  # new weights are made with a batch of record 0
            np.testing.assert_allclose(views[record], agree.SEEN[record, epoch], rtol=0, atol=1e-5)
    assert np.abs(agree.SEEN[1, 0] - agree.SEEN[1, 1]).max() > 0.1


@pytest.mark.quick
def test_the_centre_of_the_canvas_is_nearly_the_square_that_the_host_cuts(photographs):
    method = make_method({"name": "agree"}, DataSpec(SIDE, canvas=48))
    whole = ImageSource(photographs, 48, whole=True)
    squares = ImageSource(photographs, SIDE)
    [batch] = read(whole, batch_size=6, epochs=1, train=False)
    [expected] = read(squares, batch_size=6, epochs=1, train=False, random_crop=False)
    ours = jax.jit(method.centres)(batch)
    error = np.abs(ours - method.normalize(jnp.asarray(expected["image"])))
    assert error.mean(axis=(1, 2, 3)).max() < 0.06  # of a range of 2


@pytest.mark.quick
def test_bad_settings_are_one_clear_line(run):
    with pytest.raises(InputError, match="data.canvas: 63 px are too few for .*=64 px; use at"):
        make_method({"name": "agree"}, DataSpec(64, canvas=63))
    with pytest.raises(InputError, match="data.canvas: 513 px are too many .*use at most 512"):
        make_method({"name": "agree"}, DataSpec(64, canvas=513))
    with pytest.raises(InputError, match="method.views: unknown recipe of views 'simclf'"):
        make_method({"name": "agree", "views": "simclf"}, DataSpec(64))


@pytest.mark.quick
def test_a_colour_recipe_for_images_without_colour_is_warned_of(run):
    records = run.records("images[:20]")
    assert records.channels == 1
    assert "hue" not in "".join(opening("run", run, records, records))
    colourful = make_method({"name": "agree", "views": "byol_small"}, run.method.data)
    [said] = colourful.remarks(records.channels)
    assert said.endswith("byol_small_one_channel does not")
    assert not colourful.remarks(3)


@pytest.mark.quick
def test_the_canvas_that_is_chosen():
    assert [default_canvas(size) for size in (28, 32, 64, 96, 224)] == [28, 32, 64, 110, 256]
    assert make_method({"name": "jigsaw"}, DataSpec(227, canvas=400)).delivered_size == 225
