from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssljax.data import fast_images, images

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
SMOOTH = np.kron(RNG.integers(0, 256, (5, 7, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def test_jpeg_is_decoded_exactly_as_pillow_does():
    data = encode(Image.fromarray(SMOOTH), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(images.decode(data)), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1"])
def test_png_of_any_mode_becomes_rgb(mode):
    source = Image.fromarray(SMOOTH).convert(mode)
    decoded = images.decode(encode(source, "PNG"))
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(source.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = np.asarray(images.decode(encode(Image.fromarray(grey), "PNG")))
    np.testing.assert_array_equal(decoded[..., 0], grey // 256)
    assert (decoded[..., 0] == decoded[..., 2]).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_any_mode_becomes_rgb(mode):
    source = Image.fromarray(SMOOTH).convert(mode)
    decoded = np.asarray(images.decode(encode(source, "JPEG", quality=95, subsampling=0)))
    expected = np.asarray(source.convert("RGB"))
    assert np.abs(decoded.astype(int) - expected).mean() < 6


def test_exif_orientation_is_applied():
    upright = Image.fromarray(SMOOTH)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn by 90° clockwise to see it upright
    data = encode(upright.rotate(90, expand=True), "JPEG", exif=exif, quality=95, subsampling=0)
    decoded = images.decode(data)
    assert decoded.size == upright.size
    assert (
        np.abs(np.asarray(decoded).astype(int) - SMOOTH).mean() < 8
    )  # strong colours; a wrong crop has 60


@given(st.integers(0, 10**9))
def test_damaged_bytes_are_an_image_or_an_image_error(seed):
    rng = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    file_format = ["JPEG", "PNG", "WEBP", "GIF", "BMP"][seed % 5]
    data = bytearray(encode(Image.fromarray(SMOOTH), file_format, exif=exif))
    for place in rng.integers(0, min(len(data), 400), size=rng.integers(1, 9)):
        data[place] = rng.integers(256)
    with contextlib.suppress(images.ImageError):
        assert images.decode(bytes(data)).mode == "RGB"


@pytest.mark.parametrize("fault", ["empty", "text", "cut short", "postscript"])
def test_what_is_no_whole_image_is_an_image_error(fault):
    whole = encode(Image.fromarray(SMOOTH), "JPEG")
    data = {
        "empty": b"",
        "text": b"hello",
        "cut short": whole[: len(whole) // 2],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }[fault]
    with pytest.raises(images.ImageError):
        images.decode(data)


def test_a_picture_with_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(images.ImageError):
        images.decode(encode(Image.fromarray(SMOOTH), "PNG"))


@pytest.mark.parametrize("turned", [False, True])
def test_centre_crop_and_resize_match_a_plain_crop(turned):
    picture = Image.fromarray(SMOOTH.transpose(1, 0, 2) if turned else SMOOTH)
    result = images.square(picture, 20, None)
    box = (0, 8, 40, 48) if turned else (8, 0, 48, 40)
    expected = picture.crop(box).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_random_crops_reach_both_ends_and_keep_the_shorter_side():
    gradient = np.broadcast_to(np.arange(56, dtype=np.uint8)[None, :, None], (40, 56, 3))
    lefts = {
        int(images.square(Image.fromarray(gradient), 40, np.random.default_rng(seed))[0, 0, 0])
        for seed in range(300)
    }
    assert lefts == set(range(17))


def fast_square(data, size, rng):
    out = np.zeros((size, size, 3), np.uint8)
    fast_images.square(data, rng, out)
    return out


@pytest.mark.parametrize(("width", "height"), [(60, 90), (90, 60), (64, 64), (300, 200), (17, 131)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_fast_decoding_of_the_rows_that_are_needed_is_that_of_all(width, height, subsampling):
    pixels = np.asarray(Image.fromarray(SMOOTH).resize((width, height)))
    pixels = pixels ^ np.random.default_rng(0).integers(64, size=pixels.shape, dtype=np.uint8)
    data = encode(Image.fromarray(pixels), "JPEG", subsampling=subsampling)
    whole = fast_images.decode(data, 48)
    for seed in range(20):
        expected = np.zeros((48, 48, 3), np.uint8)
        box = images.square_box(*images.dimensions(whole), np.random.default_rng(seed))
        fast_images.resize(whole, box, expected)
        np.testing.assert_array_equal(fast_square(data, 48, np.random.default_rng(seed)), expected)


def test_larger_pictures_are_decoded_smaller_but_not_below_the_square():
    data = encode(Image.fromarray(SMOOTH).resize((801, 433)), "JPEG")
    for size, expected in ((48, (55, 101)), (100, (109, 201)), (300, (433, 801))):
        assert fast_images.decode(data, size).shape[:2] == expected
    assert fast_images.decode(data).shape[:2] == (433, 801)


def test_a_header_that_claims_too_much_takes_no_memory(monkeypatch):
    data = bytearray(encode(Image.fromarray(SMOOTH), "JPEG"))
    place = fast_images._frame(bytes(data))[0]
    data[place : place + 4] = b"\xff\xff\xff\xff"
    monkeypatch.setattr(fast_images.simplejpeg, "decode_jpeg", None)
    with pytest.raises(images.ImageError):
        fast_images.decode(bytes(data))


@pytest.mark.parametrize("size", [(60, 90), (640, 400), (900, 901)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_fast_decoding_is_close_to_exact(size, options):
    data = encode(Image.fromarray(SMOOTH).resize(size, Image.Resampling.BICUBIC), "JPEG", **options)
    for rng in (None, 0, 1):
        draw = (None,) * 2 if rng is None else [np.random.default_rng(rng) for _ in range(2)]
        exact = images.square(images.decode(data), 48, draw[0]).astype(int)
        assert (
            np.abs(fast_square(data, 48, draw[1]) - exact).mean() < 8
        )  # strong colours; a wrong crop has 60


def test_what_fast_decoding_leaves_to_pillow():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(SMOOTH)
    for data in (
        encode(picture, "PNG"),
        encode(picture, "JPEG", exif=exif),
        encode(picture, "JPEG", progressive=True),
        encode(picture.convert("CMYK"), "JPEG"),
    ):
        expected = np.asarray(images.decode(data))
        np.testing.assert_array_equal(fast_images.decode(data), expected)
        np.testing.assert_array_equal(
            fast_square(data, 40, None), images.square(expected, 40, None)
        )
    grey = encode(picture.convert("L"), "JPEG")
    assert (np.ptp(fast_square(grey, 40, None).astype(int), axis=-1) == 0).all()
    with pytest.raises(images.ImageError):
        fast_square(encode(picture, "JPEG")[:-50], 40, None)
    with pytest.raises(images.ImageError):
        fast_square(b"no image", 40, None)


@given(st.binary(max_size=64), st.integers(0, 600))
def test_damaged_bytes_are_decoded_fast_or_an_image_error(noise, place):
    data = bytearray(encode(Image.fromarray(SMOOTH), "JPEG"))
    data[place : place + len(noise)] = noise
    with contextlib.suppress(images.ImageError):
        fast_square(bytes(data), 32, None)
