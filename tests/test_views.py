"""Each operation on images against torchvision's, with the same parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.settings.errors import InputError
from ssljax.views import augment, blur, colours, crops, recipes
from tests import references

torch = references.load("torch")
torchvision = references.load("torchvision")
functional = references.load("torchvision.transforms.v2.functional")
transforms = references.load("torchvision.transforms.v2")

pytestmark = [pytest.mark.reference, pytest.mark.quick]
BICUBIC = transforms.InterpolationMode.BICUBIC
BILINEAR = transforms.InterpolationMode.BILINEAR


def image(height=24, width=24, seed=0):
    pixels = np.random.default_rng(seed).random((3, height, width), np.float32)
    # Some pixels have no colour, and some have two equal channels.
    pixels[:, :2] = pixels[:1, :2]
    pixels[1, 2:4] = pixels[0, 2:4]
    return pixels


def assert_equal(ours, theirs, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), rtol=0, atol=tolerance)


COLOURS = {
    "brightness": (colours.brightness, functional.adjust_brightness, (0.3, 1.0, 1.7)),
    "contrast": (colours.contrast, functional.adjust_contrast, (0.3, 1.0, 1.7)),
    "saturation": (colours.saturation, functional.adjust_saturation, (0.3, 1.0, 1.7)),
    "hue": (colours.hue, functional.adjust_hue, (-0.5, -0.21, 0.0, 0.13, 0.5)),
}


@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_operation_is_torchvisions(name):
    ours, theirs, amounts = COLOURS[name]
    pixels = image()
    for amount in amounts:
        assert_equal(ours(pixels, amount), theirs(torch.from_numpy(pixels), amount))


def test_grey_and_solarisation_are_torchvisions():
    pixels = image()
    grey = functional.rgb_to_grayscale(torch.from_numpy(pixels), num_output_channels=3)
    assert_equal(colours.grey(pixels), grey)
    pixels[0, 0, 0] = 0.5
    assert_equal(colours.solarize(pixels), functional.solarize(torch.from_numpy(pixels), 0.5))


def test_the_jitter_applies_torchvisions_operations_in_the_given_order():
    pixels, amounts = image(), (0.6, 1.5, 1.4, 0.2)
    jitter = jax.jit(colours.jitter, static_argnums=1)
    for order in [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)]:
        expected = torch.from_numpy(pixels)
        for index in order:
            expected = COLOURS[colours.OPERATIONS[index]][1](expected, amounts[index])
        ours = jitter(pixels, colours.OPERATIONS, jnp.array(order), jnp.array(amounts))
        assert_equal(ours, expected, 5e-6)
    some = ("contrast", "brightness")
    expected = functional.adjust_contrast(torch.from_numpy(pixels), 1.5)
    expected = functional.adjust_brightness(expected, 0.6)
    assert_equal(jitter(pixels, some, jnp.array([0, 1]), jnp.array([1.5, 0.6])), expected, 5e-6)


@pytest.mark.parametrize(("side", "sigma"), [(32, 0.1), (32, 2.0)])
def test_blur_is_torchvisions(side, sigma):
    pixels, size = image(side, side), blur.kernel_size(side) + 4
    expected = functional.gaussian_blur(torch.from_numpy(pixels), [size, size], [sigma, sigma])
    ours = jax.jit(blur.blur)(pixels, blur.gaussian(sigma, size))
    assert_equal(ours, expected)


def test_the_kernel_of_the_blur_is_odd_and_a_tenth_of_the_side():
    assert [blur.kernel_size(side) for side in (224, 96, 227, 64, 32)] == [23, 9, 23, 7, 3]


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_torchvisions_on_a_canvas_that_is_the_image(bicubic, flip):
    pixels, side = image(40, 40), 16
    size = jnp.array([40.0, 40.0])
    crop = jax.jit(lambda box: crops.crop(pixels, box, size, side, bicubic=bicubic, flip=flip))
    # Smaller, larger, at the edges, whole, and a single pixel.
    for top, left, height, width in [
        (3, 5, 31, 23), (20, 12, 9, 11), (0, 30, 40, 10), (0, 0, 40, 40), (7, 39, 1, 1)
    ]:  # fmt: skip
        expected = functional.resized_crop(
            torch.from_numpy(pixels), top, left, height, width, [side, side],
            BICUBIC if bicubic else BILINEAR, antialias=True,
        ).clamp(0, 1)  # fmt: skip
        if flip:
            expected = expected.flip(-1)
        box = crops.Box(*map(jnp.float32, (top, left, height, width)))
        assert_equal(crop(box), expected, 5e-6)


@pytest.mark.parametrize("bicubic", [False, True])
def test_the_matrices_of_accelerators_and_the_taps_of_cpus_agree(bicubic):
    pixels = jnp.asarray(image(24, 40))
    size = jnp.array([50.0, 60.0])

    @jax.jit
    def both(box):
        rows, columns = crops.axes(pixels.shape, box, size, 16, bicubic)
        flip = jnp.array(True)
        return crops.by_taps(pixels, rows, columns, flip), crops.by_matrices(
            pixels, rows, columns, flip
        )

    for values in [(3, 5, 31, 23), (0, 0, 50, 60), (49, 59, 1, 1)]:
        taps, matrices = both(crops.Box(*map(jnp.float32, values)))
        np.testing.assert_allclose(taps, matrices, atol=2e-6)


@pytest.mark.parametrize("bicubic", [False, True])
def test_a_crop_of_a_squashed_canvas_looks_like_that_of_the_image(bicubic):
    # A smooth photograph-like image of 96 × 64 px on a canvas of 64 × 64 px.
    y, x = np.mgrid[:96, :64].astype(np.float32)
    pixels = np.stack([0.5 + 0.4 * np.sin(x / 9), 0.5 + 0.4 * np.cos(y / 11), (x + y) / 160])
    pixels = torch.from_numpy(pixels.astype(np.float32))
    canvas = functional.resize(pixels, [64, 64], antialias=True).numpy()
    size = jnp.array([96.0, 64.0])
    crop = jax.jit(lambda box: crops.crop(jnp.asarray(canvas), box, size, 32, bicubic=bicubic))
    for top, left, height, width in [(10, 5, 70, 52), (30, 20, 33, 40), (0, 0, 96, 64)]:
        expected = functional.resized_crop(
            pixels, top, left, height, width, [32, 32], BICUBIC if bicubic else BILINEAR,
            antialias=True,
        )  # fmt: skip
        box = crops.Box(*map(jnp.float32, (top, left, height, width)))
        ours = crop(box)
        assert_equal(ours, expected, 0.02)
        assert np.abs(np.asarray(ours) - expected.numpy()).mean() < 2e-3


def test_the_padding_crop_is_torchvisions():
    pixels = image(16, 16)
    for top, left in [(0, 0), (8, 3), (4, 4)]:
        padded = functional.pad(torch.from_numpy(pixels), [4, 4, 4, 4])
        expected = functional.crop(padded, top, left, 16, 16)
        assert_equal(crops.padding_crop(pixels, jnp.array([top, left]), 4), expected, 0)


def test_an_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown recipe of views 'simclr_smal'.*simclr_small"):
        recipes.recipe("simclr_smal")


def test_small_recipes_do_not_blur_and_one_channel_recipes_leave_colours_out():
    for name in recipes.RECIPES:
        views = [view for group in recipes.recipe(name).values() for view in group.views]
        small, one_channel = recipes.SMALL in name, name.endswith(recipes.ONE_CHANNEL)
        assert not (small and any(view.blur or max(view.colour) > 0.4 for view in views)), name
        assert not (one_channel and any(view.uses_colour for view in views)), name
    assert recipes.recipe("byol")["global"].views[0].blur == 1
    assert len(recipes.recipe("dino")["local"].views) == 8
    assert recipes.recipe("dino")["local"].side(224) == 96


def test_the_centre_square_is_torchvisions():
    pixels = torch.from_numpy(image(50, 30))
    square = functional.center_crop(pixels, [30, 30])
    expected = functional.resize(square, [20, 20], antialias=True)
    whole = (pixels * 255).round().to(torch.uint8)
    # On a canvas of its own height and width, so that only the crop is compared.
    canvas = whole.permute(1, 2, 0).numpy()[None]
    squares = jax.jit(augment.centre_squares, static_argnums=2)
    ours = squares(jnp.asarray(canvas), jnp.array([[50, 30]]), 20)
    assert_equal(jnp.moveaxis(ours[0], -1, 0), expected, 0.003)
