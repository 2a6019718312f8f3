"""The part that methods share whose network sees the tiles of an image one by one."""

from __future__ import annotations

import dataclasses

import numpy as np

from ssljax.methods.tile_method import Look, TileMethod
from ssljax.settings.errors import InputError
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiameseTiles(TileMethod):
    """Each tile goes through the same backbone; a head compares the features.

    Cells are as large as `data.image_size` allows. Tiles have the size of the cell without the gap.
    """

    # A network may place tiles by chromatic aberration, the colour fringes of lenses.
    grey: float = option(0.0, "the probability that an image is grey", at_least=0, at_most=1)
    colour_shift: int = option(
        0,
        "each channel of a tile is moved by up to so many pixels within its cell, at most the gap",
        at_least=0,
    )

    def __post_init__(self) -> None:
        size = self.data.image_size
        if self.cells > size:
            raise InputError(
                f"data.image_size must be >= {self.cells}, the number of cells along each side, "
                f"got {size}"
            )
        if self.gap >= self.cell:
            raise InputError(
                f"method.gap must be < {self.cell}, the side of a cell with "
                f"data.image_size={size}, got {self.gap}"
            )
        if self.colour_shift > self.gap:
            raise InputError(
                f"method.colour_shift must be <= method.gap ({self.gap}), got {self.colour_shift}"
            )

    @property
    def cell(self) -> int:
        """The side of a cell, in pixels."""
        return self.data.image_size // self.cells

    @property
    def tile_side(self) -> int:
        """The side of a tile, in pixels."""
        return self.cell - self.gap

    @property
    def smallest_input(self) -> int:
        """The side of a tile, in pixels."""
        return self.tile_side

    @property
    def smallest_input_is(self) -> str:
        """What the smallest input is."""
        return (
            f"method.gap: with {self.cells}×{self.cells} cells of {self.cell} px and a gap of "
            f"{self.gap} px there are tiles"
        )

    def looks(self) -> dict[str, Look]:
        """Other looks; also without grey images if there are some."""
        found = super().looks()
        if self.grey:
            found["in_colour"] = self.look._replace(grey=False)
        return found

    def draw_looks(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """What `tiles` needs for `count` tiles of a record."""
        draws = self.draw_offsets(rng, count)
        if self.grey:
            draws["grey"] = np.asarray(rng.random() < self.grey)
        if self.colour_shift:
            most = self.colour_shift
            draws["shifts"] = rng.integers(-most, most + 1, size=(count, 3, 2), dtype=np.int32)
        return draws

    def remarks(self, channels: int) -> list[str]:
        """Says if images without colour are to be made grey."""
        if channels != 1 or not self.grey:
            return []
        return ["method.grey: the images have one channel, so grey ones look like the others"]
