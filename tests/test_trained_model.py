from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import ssljax
from ssljax.settings.errors import InputError


def truncated() -> Image.Image:
    """An image of Pillow that finds out late that its file ends early."""
    file = io.BytesIO()
    Image.fromarray(np.arange(30000, dtype=np.uint8).reshape(100, 100, 3)).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:-400]))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (80 + index, 90, 3), dtype=np.uint8) for index in range(70)]


def test_classes_come_with_probabilities(classification_run, images, tmp_path):
    model = ssljax.load_run(classification_run)
    results = model.classify(images, top=10)
    assert len(results) == 70
    for classes in results:
        assert {name for name, _ in classes} == set(model.class_names)
        values = [value for _, value in classes]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-5)
    path = tmp_path / "image.png"
    Image.fromarray(images[0]).save(path)
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "PNG")
    kinds = [path, str(path), file.getvalue(), Image.fromarray(images[0]), images[0]]
    np.testing.assert_allclose(
        model.outputs(kinds), np.tile(model.outputs(kinds[:1]), (5, 1)), rtol=1e-4
    )


def test_features_of_a_layer(classification_run, pretext_run, images):
    model = ssljax.load_run(classification_run)
    assert model.features(images[:3], "conv5").shape == (3, 1, 1, 16)
    assert model.features(images[:3], "fc6").shape == (3, 256)
    assert (model.features(images[:3], "fc7") >= 0).all()
    assert ssljax.load_run(pretext_run).features(images[:2]).shape == (2, 256)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: model.features(["x.jpg"], "conv5"), "x.jpg: No such file"),
        (lambda model: model.features([], "conv5"), "no images were given"),
        (
            lambda model: model.features([b"x"], "conv5"),
            "the given bytes cannot be read as an image",
        ),
        (lambda model: model.features([np.zeros((4, 4))], "conv5"), r"got float64\[4, 4\]"),
        (lambda model: model.features([np.zeros((0, 4, 3), np.uint8)], "conv5"), r"\[0, 4, 3\]"),
        (lambda model: model.features([truncated()], "conv5"), "the given image cannot be read"),
        (lambda model: model.features([b"x"], "conv6"), "no layer 'conv6'; did you mean"),
        (lambda model: model.outputs([b"x"]), "jigsaw makes inputs of its own from an image"),
        (lambda model: model.classify([b"x"]), "a run of the method jigsaw does not name classes"),
    ],
)
def test_mistakes_are_named(pretext_run, call, said):
    with pytest.raises(InputError, match=said):
        call(ssljax.load_run(pretext_run))


def test_an_opened_image_is_turned_upright_like_its_file(classification_run, images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(images[0]).save(path, exif=exif)
    model = ssljax.load_run(classification_run)
    with Image.open(path) as opened:
        outputs = model.outputs([path, opened, images[0]])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4)
    assert not np.allclose(outputs[0], outputs[2], rtol=1e-4)
