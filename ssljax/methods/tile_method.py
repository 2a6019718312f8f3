"""The part that methods share which show tiles of an image: how they are cut, and shortcuts.

Source of the protections against shortcuts: Noroozi and Favaro (2016), "Unsupervised Learning of
Visual Representations by Solving Jigsaw Puzzles", section 3.3.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.methods import tiles as tile_arrays
from ssljax.methods.method import Batch, Context, Method, Metrics, Tree
from ssljax.settings.options import option

_EVERY = 4  # images, of which one is used to measure shortcuts


class Look(NamedTuple):
    """How tiles are shown.

    Attributes:
      gap: a tile shows a window of its cell that is smaller by so many pixels.
      normalize: every tile has mean 0 and standard deviation 1.
      grey: all images are grey, or none is; None: those that are drawn.
    """

    gap: int
    normalize: bool
    grey: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TileMethod(Method):
    """A method that cuts an image into a grid of cells, of which each tile shows a part.

    When evaluating, `diagnostics` measures what the protections against shortcuts do.
    """

    # With a gap, tiles cannot be placed by matching their edges.
    gap: int = option(
        0,
        "a tile shows a random window of its cell that is smaller by so many pixels",
        at_least=0,
    )
    # Normalised tiles cannot be placed by their brightness.
    normalize_tiles: bool = option(
        False, "give every tile mean 0 and standard deviation 1 by itself"
    )
    shortcuts: bool = option(
        True,
        "when validating, measure the accuracy also without each protection against shortcuts, or "
        "with it, on every fourth image; validation takes about twice as long",
    )

    # The metric that `diagnostics` measures for other looks.
    accuracy_metric: ClassVar[str] = "accuracy"

    @property
    @abc.abstractmethod
    def cells(self) -> int:
        """The number of cells along each side of the image."""

    @property
    @abc.abstractmethod
    def cell(self) -> int:
        """The side of a cell, in pixels."""

    @property
    def tile_side(self) -> int:
        """The side of a tile as it is shown, in pixels.

        A smaller window has zeros around it; a larger one is resized.
        """
        return self.cell

    @property
    def image_size(self) -> int:
        """Images are resized to whole cells."""
        return self.cells * self.cell

    @abc.abstractmethod
    def show(self, batch: Batch, look: Look) -> Tree:
        """The network's inputs with a look; on the devices."""

    @property
    def look(self) -> Look:
        """How tiles are shown when training."""
        return Look(self.gap, self.normalize_tiles)

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """The tiles; see `show`."""
        return self.show(batch, self.look)

    def draw_offsets(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """With a gap, `offsets` int32[T, 2]: the (row, column) of each window in its cell."""
        if not self.gap:
            return {}
        return {"offsets": rng.integers(self.gap + 1, size=(count, 2), dtype=np.int32)}

    def tiles(self, batch: Batch, cells: jax.Array, look: Look) -> jax.Array:
        """Cuts tiles out of the images of a batch.

        Args:
          batch: with `image`, perhaps with the draws `offsets` int32[B, T, 2], `grey` bool[B] and
            `shifts` int32[B, T, 3, 2], by which each channel of a tile is moved.
          cells: int32[B, T], the cell that each tile shows, row by row.
          look: how they are shown.

        Returns:
          float32[B, T, tile_side, tile_side, 3].
        """
        images, side = batch["image"], self.cell - look.gap
        grey = batch.get("grey") if look.grey is None else jnp.full(len(images), look.grey)
        if grey is not None and look.grey is not False:
            images = tile_arrays.in_grey(images, grey)
        images = self.normalize(images)
        places = jnp.stack([cells // self.cells, cells % self.cells], axis=-1)
        # A gap that is not drawn is shown in the middle.
        offsets = batch["offsets"] if "offsets" in batch else jnp.asarray(look.gap // 2)
        shifts = batch.get("shifts")

        def corners(shift: jax.Array | int) -> jax.Array:
            return places * self.cell + jnp.clip(offsets + shift, 0, look.gap)

        if shifts is None:
            tiles = tile_arrays.squares(images, corners(0), side)
        else:
            channels = [
                tile_arrays.squares(images[..., index, None], corners(shifts[:, :, index]), side)
                for index in range(images.shape[-1])
            ]
            tiles = jnp.concatenate(channels, axis=-1)
        if side > self.tile_side:
            tiles = tile_arrays.resize(tiles, self.tile_side)
        if look.normalize:
            tiles = tile_arrays.normalize(tiles)
        # Zero is mid-grey, or a normalised tile's mean.
        return tile_arrays.frame(tiles, self.tile_side)

    def looks(self) -> dict[str, Look]:
        """Other looks by name, each with one protection switched off or on.

        Without the gap, a tile shows its whole cell. A gap that the run does not have is a sixth of
        a cell.
        """
        own, found = self.look, {}
        if own.gap:
            found["without_gap"] = own._replace(gap=0)
        elif self.cell > 1:
            found["with_gap"] = own._replace(gap=max(1, self.cell // 6))
        other = "without_normalization" if own.normalize else "with_normalization"
        found[other] = own._replace(normalize=not own.normalize)
        found["in_grey"] = own._replace(grey=True)
        return found

    def diagnostics(self, outputs: Tree, context: Context) -> Metrics:
        """The accuracy of the same network with each of the other looks.

        It is measured on every fourth image, since it takes long; on all, if the number of images
        on a device is not a multiple of four.
        """
        if not self.shortcuts:
            return {}
        assert context.apply is not None
        rows = len(context.batch["mask"])
        every = _EVERY if rows % _EVERY == 0 else 1
        batch = {name: values[::every] for name, values in context.batch.items()}
        found: Metrics = {}
        for name, look in self.looks().items():
            changed = context.apply(self.show(batch, look))
            metric = self.metrics(changed, context._replace(batch=batch))[self.accuracy_metric]
            # The others have no weight.
            values, weights = (jnp.zeros(rows).at[::every].set(each) for each in metric)
            found[f"{self.accuracy_metric}_{name}"] = (values, weights)
        return found

    def with_looks(self, chance: dict[str, float]) -> dict[str, float]:
        """What guessing reaches, also for the metrics of `diagnostics`."""
        guess = chance[self.accuracy_metric]
        names = self.looks() if self.shortcuts else ()
        return {**chance, **{f"{self.accuracy_metric}_{name}": guess for name in names}}
