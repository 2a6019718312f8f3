"""`data.decoding=exact`: equal to Pillow to the bit, also where Pillow does not do the work."""

from __future__ import annotations

import io
import itertools
import tracemalloc

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from ssljax.data import exact_jpeg, images, resampling
from ssljax.data.decoder import Decoder
from tests import jpeg_sampling

pytestmark = pytest.mark.quick

SIDES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65, 130)
SAMPLINGS = (
    jpeg_sampling.USUAL, *jpeg_sampling.UNUSUAL,
    (0x11, 0x11, 0x11), (0x21, 0x11, 0x11), (0x12, 0x11, 0x11), (0x41, 0x11, 0x11),
    (0x14, 0x11, 0x11), (0x42, 0x11, 0x11), (0x44, 0x11, 0x11), (0x22, 0x11, 0x21), (0x22,) * 3,
    (0x11,), (0x22,), (0x13,), (0x11,) * 4,
)  # fmt: skip
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def photograph(width, height, seed=0):
    """Smooth shapes and some noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(smooth ^ rng.integers(0, 16, smooth.shape, np.uint8))


def encode(image, file_format="JPEG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_adobe(data, transform):
    """With Adobe's marker, which says how the colours are stored."""
    return (
        data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform]) + data[2:]
    )


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def outcome(decode, data):
    """The pixels, or what the error says."""
    try:
        pixels = np.asarray(decode(data))
    except images.ImageError as error:
        return str(error)
    return pixels.shape, pixels.tobytes()


def check(data, plain=None):
    """Compares with Pillow; `plain` says whether simplejpeg must have decoded it."""
    np.testing.assert_array_equal(np.asarray(Decoder(8).decode(data)), by_pillow(data))
    if plain is not None:
        assert (exact_jpeg.decode(data) is not None) == plain


def test_photographs_of_all_sizes():
    for (width, height), subsampling in itertools.product(
        itertools.product(SIDES, SIDES), (0, 1, 2)
    ):
        data = encode(photograph(width, height), quality=70, subsampling=subsampling)
        check(data, plain=True)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_samplings(sampling):
    rng = np.random.default_rng(0)
    for width, height in ((1, 1), (7, 9), (33, 17), (97, 64), (64, 97)):
        data = jpeg_sampling.encode(width, height, sampling, rng)
        if isinstance(outcome(images.decode, data), str):  # one that Pillow refuses
            assert outcome(Decoder(8).decode, data) == outcome(images.decode, data)
        else:
            check(data)


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"optimize": True},
        {"progressive": True, "subsampling": 1, "quality": 30},
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1, "progressive": True},
        {"keep_rgb": True},
        {"comment": b"\xff\xd9", "icc_profile": b"profile" * 99, "dpi": (72, 72)},
        *({"quality": quality} for quality in (1, 10, 50, 75, 90, 95, 100)),
        {"exif": turned(1)},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_kinds_of_files(options, mode):
    for size in ((1, 1), (61, 93), (150, 70)):
        check(encode(photograph(*size).convert(mode), **options), plain=True)


def test_what_is_left_to_pillow():
    image = photograph(61, 93)
    for orientation in (0, 2, 3, 4, 5, 6, 7, 8, 9):
        check(encode(image, exif=turned(orientation)), plain=False)
    for orientation in range(1, 9):
        check(encode(image, xmp=XMP % orientation), plain=orientation == 1)
    check(encode(photograph(725, 724)), plain=False)
    cmyk = encode(image.convert("CMYK"))
    for data in (cmyk, with_adobe(cmyk, 0), with_adobe(cmyk, 2), encode(image, "PNG")):
        check(data, plain=False)


@pytest.mark.parametrize("transform", [0, 1, 2])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_colours_as_adobe_marks_them(transform, subsampling):
    data = encode(photograph(61, 93), subsampling=subsampling)
    jfif = 4 + int.from_bytes(data[4:6])
    for marked in (data, data[:2] + data[jfif:]):
        check(with_adobe(marked, transform))


@pytest.mark.parametrize(
    "segment",
    [
        (0xE0, b"JFIF\0"),
        (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        (0xE1, b"Exif\0\0damaged"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0"),
        (0xEE, b"Adobe"),
        (0xEE, b"Adobe\0\x64\0\0\0\0\1"),
        (0xFE, b""),
        (0xDB, b"\0" + bytes(63)),
        (0xC0, b"\x08\0\x10\0\x10\3"),
        (0xF7, b"\0"),
    ],
)
@pytest.mark.parametrize("after", [b"\xff\xd8", b"\xff\xda"])
def test_segments_that_pillow_refuses_or_takes(segment, after):
    data = encode(photograph(16, 16))
    place = data.index(after) + (2 if after == b"\xff\xd8" else 0)
    marker, content = segment
    inserted = b"\xff" + bytes([marker]) + (2 + len(content)).to_bytes(2) + content
    data = data[:place] + inserted + data[place:]
    assert outcome(Decoder(8).decode, data) == outcome(images.decode, data)


def test_bytes_after_the_end_and_no_end():
    data = encode(photograph(61, 93))
    two = encode(photograph(61, 93), "MPO", save_all=True, append_images=[photograph(93, 61)])
    check(two, plain=True)  # the first one
    check(data + b"\xff\xd8 more", plain=True)
    assert outcome(Decoder(8).decode, data[:-2]) == outcome(images.decode, data[:-2])
    check(b"\xff\xd8" + data[2:].replace(b"\xff\xdb", b"\xff\xff\xff\xdb"))


def test_damaged_files_give_the_same_pixels_or_the_same_error():
    rng = np.random.default_rng(0)
    refused = plain = 0
    for seed in range(1500):
        image = photograph(*rng.integers(1, 120, 2).tolist(), seed)
        options = ({}, {"progressive": True}, {"exif": turned(6)}, {"restart_marker_blocks": 2})
        image = image.convert(("RGB", "RGB", "L", "CMYK")[seed // 4 % 4])
        data = bytearray(encode(image, subsampling=seed % 3, **options[seed % 4]))
        place = int(rng.integers(2, len(data)))
        for _ in range(int(rng.integers(1, 4))):
            match int(rng.integers(5)):
                case 0:
                    del data[place : place + int(rng.integers(1, 50))]
                case 1:
                    data[place:place] = rng.bytes(3)
                case 2:
                    del data[place:]
                case _:  # half of them in the header
                    data[int(rng.integers(min(len(data), 1 + place)))] = rng.integers(256)
        expected = outcome(images.decode, bytes(data))
        assert outcome(Decoder(8).decode, bytes(data)) == expected, seed
        refused += isinstance(expected, str)
        plain += exact_jpeg.decode(bytes(data)) is not None
    assert refused > 100
    assert plain > 100


def test_a_header_that_claims_too_much_takes_no_memory():
    data = bytearray(encode(photograph(8, 8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    tracemalloc.start()
    with pytest.raises(images.ImageError, match="decompression bomb"):
        Decoder(8).square(bytes(data), None, np.empty((8, 8, 3), np.uint8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    # simplejpeg reads the size anew, and writes only into what `exact_jpeg` gives it.
    with pytest.raises(ValueError, match="buffer"):
        simplejpeg.decode_jpeg(encode(photograph(8, 9)), buffer=np.empty((8, 8, 3), np.uint8))


def test_the_hosts_limit_of_pixels_holds(monkeypatch):
    for data in (encode(photograph(30, 40)), encode(photograph(30, 40), icc_profile=b"profile")):
        check(data, plain=True)
        with monkeypatch.context() as host:
            host.setattr(Image, "MAX_IMAGE_PIXELS", 500)
            with pytest.raises(images.ImageError, match="decompression bomb"):
                Decoder(8).decode(data)
            host.setattr(Image, "MAX_IMAGE_PIXELS", None)
            check(data, plain=True)


@pytest.mark.parametrize("size", [1, 2, 7, 32, 225, 400])
def test_squares_are_resized_as_pillow_does(size):
    rng = np.random.default_rng(size)
    for side in (*SIDES, 224, 226, 300, 449, 450, 451, 725):
        pixels = rng.choice((0, 1, 127, 254, 255), (side + 2, side + 1, 3)).astype(np.uint8)
        square = pixels[1 : 1 + side, 1:]
        expected = Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)
        out = np.zeros((size, size, 3), np.uint8)
        resampling.resize(square, out)
        np.testing.assert_array_equal(out, np.asarray(expected))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (48, 60), (48, 48), (1000, 800), (1, 1)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_squares_and_canvases(size, file_format):
    data = encode(photograph(*size), file_format)
    whole = Image.fromarray(by_pillow(data))
    decoder = Decoder(48)
    found = np.zeros((48, 48, 3), np.uint8)
    for seed in (None, 0, 1, 2):
        rng, same = (seed if seed is None else np.random.default_rng(seed) for _ in range(2))
        decoder.square(data, rng, found)
        left, top, side = images.square_box(*size, same)
        square = whole.crop((left, top, left + side, top + side))
        expected = square.resize((48, 48), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(expected))
    assert decoder.canvas(data, found) == size[::-1]
    expected = whole.resize((48, 48), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(expected))
