"""What methods share that see one view of an image and mask some of its patches."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax

from ssljax.methods.method import Batch
from ssljax.methods.view_method import ViewMethod
from ssljax.settings.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedMethod(ViewMethod):
    """A method with one view of an image, whose backbone computes tokens of its patches."""

    needs_tokens: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(len(group.views) for group in self.recipe.values()) > 1:
            raise InputError(
                f"method.views: {self.views} makes several views; the method takes one, as of "
                f"`{type(self).views}`"
            )

    @property
    def patches(self) -> int:
        """The number N of an image's patches."""
        return self.side**2

    @property
    def side(self) -> int:
        """The number of patches along a side of an image."""
        return self.image_size // self.data.patch

    def image(self, batch: Batch, keys: jax.Array, train: bool) -> jax.Array:
        """float32[B, S, S, 3]: a view when training, otherwise the centre square."""
        if not train:
            return self.centres(batch)
        views: jax.Array = super().inputs(batch, keys, train)
        return views[:, 0]
