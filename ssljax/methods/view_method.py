"""The part that methods share which compare augmented views of an image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ssljax.methods.method import Batch, Method, Tree
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views import recipes
from ssljax.views.augment import centre_squares, make_views

_LARGEST_CANVAS = 8  # as a multiple of the side of views


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewMethod(Method):
    """A method whose inputs are the views of a recipe; a subclass names its own as the default."""

    views: str = option("simclr", "recipe of the views, see docs/views.md")

    def __post_init__(self) -> None:
        check_views(self.views, self.delivered_size, self.image_size)

    @property
    def needs_canvas(self) -> bool:
        """Always."""
        return True

    @property
    def recipe(self) -> recipes.Recipe:
        """The groups of views by name."""
        return recipes.recipe(self.views)

    @property
    def smallest_input(self) -> int:
        """The side of the smallest views, in pixels."""
        return min(group.side(self.image_size) for group in self.recipe.values())

    @property
    def smallest_input_is(self) -> str:
        """What the smallest inputs are."""
        return f"method.views: {self.views} has local views"

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The views, normalised: float32[B, V, S, S, 3], or a dict of them if there are groups.

        When evaluating, a record has the same views every time. Without random views, a loss that
        compares them would say nothing.
        """
        images, sizes = canvases(batch)
        made = make_views(images, sizes, keys, self.recipe, self.image_size)
        views = {name: self.normalize(group) for name, group in made.items()}
        return views if len(views) > 1 else views["global"]

    def centres(self, batch: Batch) -> jax.Array:
        """The centre square of each image, normalised, without augmentation.

        It differs from the square that the host cuts out only by having been resized twice.

        Args:
          batch: see `Context`.

        Returns:
          float32[B, S, S, 3].
        """
        return self.normalize(centre_squares(*canvases(batch), self.image_size))

    def remarks(self, channels: int) -> list[str]:
        """Says if the recipe changes the colours of images that have none."""
        grey = channels == 1 and any(
            view.uses_colour for group in self.recipe.values() for view in group.views
        )
        if not grey:
            return []
        return [
            f"method.views: the images have one channel, and {self.views} changes hue and "
            f"saturation; {self.views}{recipes.ONE_CHANNEL} does not"
        ]


def check_views(name: str, canvas: int, image_size: int) -> None:
    """Checks the name of a recipe, and that the size of canvases suits its views.

    Raises:
      InputError: an unknown name, or it does not.
    """
    try:
        recipes.recipe(name)
    except InputError as error:
        raise InputError(f"method.views: {error}") from error
    if canvas < image_size:
        raise InputError(
            f"data.canvas: {canvas} px are too few for views of data.image_size={image_size} px; "
            f"use at least {image_size}, or 0 to have it chosen"
        )
    # A pixel of a view is made of more pixels the larger a canvas is, and the program grows alike.
    if canvas > _LARGEST_CANVAS * image_size:
        raise InputError(
            f"data.canvas: {canvas} px are too many for views of data.image_size={image_size} px; "
            f"use at most {_LARGEST_CANVAS * image_size}, or 0 to have it chosen"
        )


def canvases(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """The canvases of a batch, uint8[B, C, C, 3], and the sizes of the images, int32[B, 2]."""
    return batch["image"], jnp.stack([batch["height"], batch["width"]], axis=-1)
