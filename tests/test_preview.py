"""`python -m ssljax.preview`: what the network will see, without training."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ssljax.preview import preview
from ssljax.report import contact_sheet, network_inputs
from ssljax.report.thumbnails import Thumbnail
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.training_records import training_records

pytestmark = pytest.mark.quick


def opened(config):
    run = open_run(resolve(config))
    return run, training_records(run)


def test_a_puzzle_is_shown_with_the_tiles_of_its_draw(make_config):
    config = make_config("jigsaw").copy_and_resolve_references().unlock()
    config.method.gap = 0
    run, records = opened(config)
    batch, _ = network_inputs.training_batch(run, records, 1, 3)
    for index, seen in enumerate(network_inputs.seen(run, records, epochs=2, count=3)):
        [[first], [second]] = seen.epochs
        assert (first.pixels != second.pixels).any()  # another epoch, another puzzle
        tiles = [second.pixels[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
        places = np.argsort(batch["permutation"][index])
        rows = [
            np.hstack([tiles[i] for i in places[:2]]),
            np.hstack([tiles[i] for i in places[2:]]),
        ]
        np.testing.assert_array_equal(np.vstack(rows), batch["image"][index])


def test_rotations_and_views_are_shown_one_by_one(make_config):
    run, records = opened(make_config("rotation"))
    [seen] = network_inputs.seen(run, records, epochs=1, count=1)
    assert [thumbnail.caption for thumbnail in seen.epochs[0]] == [
        f"input {number}" for number in (1, 2, 3, 4)
    ]
    upright, turned, *_ = (thumbnail.pixels for thumbnail in seen.epochs[0])
    np.testing.assert_array_equal(turned, np.rot90(upright))
    assert seen.original.shape == (28, 28, 3)
    assert seen.label in run.class_names


@pytest.mark.parametrize(
    "method", ["jigsaw", "rotation", "classification", "jigsaw_permutations", "relative_patch"]
)
def test_the_sheet_has_a_row_for_each_image(make_config, method):
    sheet = Image.open(io.BytesIO(preview(make_config(method), images=3, epochs=1)))
    more = Image.open(io.BytesIO(preview(make_config(method), images=5, epochs=1)))
    assert sheet.format == "PNG"
    assert more.width == sheet.width
    assert more.height > sheet.height


@pytest.mark.parametrize(
    ("images", "split"), [(3, "images[:40]"), (1, "images[:40]"), (3, "images[:3]")]
)
def test_the_last_image_has_a_partner_if_pairs_are_mixed(make_config, images, split):
    """It looks as in a larger batch; the last one of a split is mixed with the first."""
    config = make_config("classification,small_net").copy_and_resolve_references().unlock()
    config.method.mixup, config.method.cutmix, config.batch_size = 0.8, 1.0, 2
    config.data.train_split = config.data.validation_split = split
    run, records = opened(config)
    assert Image.open(io.BytesIO(preview(config, images, 1))).format == "PNG"
    batch, inputs = network_inputs.training_batch(run, records, 0, images)
    assert {len(leaf) for leaf in (*batch.values(), *inputs.values())} == {images}
    if images < len(records):
        _, larger = network_inputs.training_batch(run, records, 0, images + 1)
        for name, leaf in inputs.items():
            np.testing.assert_array_equal(leaf, larger[name][:images])
    else:
        plain = run.method.normalize(batch["image"])
        pair = np.asarray(plain)[[2, 0]]
        share = inputs["share"][2]
        is_blend = np.allclose(
            inputs["images"][2], share * pair[0] + (1 - share) * pair[1], atol=1e-5
        )
        is_cut = np.logical_or(*(np.isclose(inputs["images"][2], own) for own in pair)).all()
        assert is_blend or is_cut
        assert 0 < share < 1
    sheet = network_inputs.sheet(run, split, count=images)
    assert [len(group) for group in sheet.groups] == [2] * images


def test_a_batch_that_is_too_large_and_hostile_names_are_harmless(make_config):
    config = make_config("rotation").copy_and_resolve_references().unlock()
    config.batch_size = 1000
    with pytest.raises(InputError, match="batch_size: 1,000 is more than the 200 images"):
        preview(config)
    pixels = np.zeros((9, 300, 3), np.uint8)
    name = "<script>\n\x1b[31m\u202e" + "猫" * 500
    seen = network_inputs.Seen(0, name, pixels, ((Thumbnail(pixels, name),),))
    assert contact_sheet.draw(name, [seen]).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["here.jpg", "/nowhere/there.png"])
def test_a_bad_name_of_the_sheet_is_refused_before_work(name, make_config):
    from absl import flags

    from ssljax.preview import main

    arguments = flags.FlagValues()
    flags.DEFINE_string("out", name, "", flag_values=arguments)
    arguments.mark_as_parsed()
    with pytest.raises(InputError, match="--out: "):
        main(arguments, [])
