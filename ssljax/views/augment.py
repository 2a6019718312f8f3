"""Makes the views of a recipe from a batch of canvases, on the devices."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.views import blur, colours, crops
from ssljax.views.keys import VIEWS, fold_in
from ssljax.views.recipes import Group, Recipe, View

# (key[], float32[H, W, 3], float32[2]) to float32[S, S, 3]: a view of a canvas, given the height
# and the width of the image that it shows.
Augment = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def make_views(
    images: jax.Array, sizes: jax.Array, keys: jax.Array, recipe: Recipe, image_size: int
) -> dict[str, jax.Array]:
    """The augmented views of each image.

    A view depends only on the image and its key, not on its batch.

    Args:
      images: uint8[B, C, C, 3], canvases.
      sizes: int32[B, 2], the heights and widths of the images that the canvases show.
      keys: key[B], one for each record.
      recipe: what to make.
      image_size: the side of the views whose group has share 1, in pixels.

    Returns:
      float32[B, V, S, S, 3] in [0, 1] by the name of the group.
    """
    # New weights are made with a batch of zeros.
    keys, sizes = fold_in(keys, VIEWS), jnp.maximum(sizes, 1).astype(jnp.float32)
    made: dict[str, jax.Array] = {}
    first = 0
    for name, group in recipe.items():
        numbers = jnp.arange(first, first + len(group.views))
        first += len(group.views)
        side = group.side(image_size)
        made[name] = jax.lax.platform_dependent(
            images,
            sizes,
            fold_in(keys[:, None], numbers),
            cpu=functools.partial(_group, group, side, _one_by_one),
            default=functools.partial(_group, group, side, jax.vmap),
        )
    return made


def centre_squares(images: jax.Array, sizes: jax.Array, side: int) -> jax.Array:
    """The centre square of each image, resized (bilinear, antialiased): what is evaluated.

    Args:
      images: uint8[B, C, C, 3], canvases.
      sizes: int32[B, 2], the heights and widths of the images that the canvases show.
      side: of the results, in pixels.

    Returns:
      float32[B, side, side, 3] in [0, 1].
    """

    def square(image: jax.Array, size: jax.Array) -> jax.Array:
        planes = _planes(image)
        return jnp.moveaxis(crops.crop(planes, crops.centre_square(size), size, side), 0, -1)

    return jax.vmap(square)(_to_float(images), sizes.astype(jnp.float32))


class Draws(NamedTuple):
    """The random parameters of a view.

    Attributes:
      box: the part of the image.
      flip: bool[].
      offset: int32[2], of the padding crop.
      colour: bool[], whether brightness, contrast, saturation and hue change; so the others.
      order: int32[K], the order of those that the view has.
      amounts: float32[K], their factors and shift.
      grey: bool[].
      blur: bool[].
      sigma: float32[], of the blur, in pixels.
      solarize: bool[].
    """

    box: crops.Box
    flip: jax.Array
    offset: jax.Array
    colour: jax.Array
    order: jax.Array
    amounts: jax.Array
    grey: jax.Array
    blur: jax.Array
    sigma: jax.Array
    solarize: jax.Array


def draw(view: View, key: jax.Array, size: jax.Array) -> Draws:
    """Draws the parameters of a view.

    Args:
      view: says from which distributions.
      key: key[].
      size: float32[2], the height and width of the image.
    """
    # One call draws all numbers, since XLA takes long to compile many. Every use has a fixed
    # place, so that what a view leaves out changes nothing else.
    numbers = jax.random.uniform(key, (crops.NUMBERS + 16,))
    flip, colour, grey, blurred, solarize, sigma, *rest = numbers[crops.NUMBERS :]
    strengths = [
        (max(0.0, 1 - strength), 1 + strength) if name != "hue" else (-strength, strength)
        for name, strength in zip(colours.OPERATIONS, view.colour, strict=True)
        if strength
    ]
    count = len(strengths)
    lowest, highest = jnp.asarray(strengths, jnp.float32).reshape(-1, 2).T
    return Draws(
        box=crops.random_box(numbers[: crops.NUMBERS], size, view.crop)
        if view.crop
        else crops.centre_square(size),
        flip=flip < view.flip,
        offset=jnp.floor(jnp.stack(rest[:2]) * (2 * view.pad + 1)).astype(jnp.int32),
        colour=colour < view.colour_probability,
        order=jnp.argsort(jnp.stack(rest[2 : 2 + count])) if count else jnp.zeros(0, jnp.int32),
        amounts=lowest + jnp.stack(rest[6 : 6 + count]) * (highest - lowest)
        if count
        else jnp.zeros(0),
        grey=grey < view.grey,
        blur=blurred < view.blur,
        sigma=view.sigma[0] + sigma * (view.sigma[1] - view.sigma[0]),
        solarize=solarize < view.solarize,
    )


@functools.cache
def augment(view: View, side: int) -> Augment:
    """The function that makes one view of one image.

    It is traced once, though a program has it for each view and each kind of device.

    Args:
      view: says how.
      side: S, of the view, in pixels.
    """
    operations = tuple(
        name for name, strength in zip(colours.OPERATIONS, view.colour, strict=True) if strength
    )

    @jax.jit
    def make(key: jax.Array, image: jax.Array, size: jax.Array) -> jax.Array:
        draws = draw(view, key, size)
        kernel = blur.gaussian(draws.sigma, blur.kernel_size(side))
        steps = (
            (view.colour_probability if operations else 0, draws.colour,
             lambda x: colours.jitter(x, operations, draws.order, draws.amounts)),
            (view.grey, draws.grey, colours.grey),
            (view.blur, draws.blur, lambda x: blur.blur(x, kernel)),
            (view.solarize, draws.solarize, colours.solarize),
        )  # fmt: skip
        x = crops.crop(_planes(image), draws.box, size, side, view.bicubic, draws.flip)
        if view.pad:
            x = crops.padding_crop(x, draws.offset, view.pad)
        for probability, applied, step in steps:
            if probability:  # under vmap, both branches run
                x = jax.lax.cond(applied, step, lambda x: x, x)
        return jnp.moveaxis(x, 0, -1)

    return make


def _group(
    group: Group,
    side: int,
    each: Callable[..., Callable[..., jax.Array]],
    images: jax.Array,
    sizes: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """The views of one group, given key[B, V]."""

    def views(image: jax.Array, size: jax.Array, keys: jax.Array) -> jax.Array:
        image = _to_float(image)
        made, first = [], 0
        for view, same in itertools.groupby(group.views):
            count = len(list(same))
            function = augment(view, side)
            part = keys[first : first + count]
            made.append(each(lambda key, make=function: make(key, image, size))(part))
            first += count
        return jnp.concatenate(made)

    return each(views)(images, sizes, keys)


def _one_by_one(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Like vmap, for CPUs: a cache holds a view but not a batch, and branches are not all run."""
    return lambda *arrays: jax.lax.map(lambda items: function(*items), arrays)


def _to_float(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255


def _planes(image: jax.Array) -> jax.Array:
    return jnp.moveaxis(image, -1, 0)
