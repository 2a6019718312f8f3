"""The network of a run: a backbone and the heads of its method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from ssljax.models.backbone import Backbone, Part
from ssljax.models.batch_norm import COLLECTION
from ssljax.views import keys as streams

_KEYS = "keys"  # the collection of the random keys, which are an input and not a variable


class Network(nn.Module):
    """Named parts: `net.backbone(images)`, and `net.NAME(x)` for each head.

    Parameters and batch statistics are nested dicts, by part first: `backbone`, then the heads.

    Attributes:
      make_backbone: makes the backbone, given keyword arguments of `Part`.
      make_heads: makes each head, in the same way; (name, function) pairs.
      batch_statistics: the names of the parts that are trained: their batch normalisation uses the
        batch's statistics, and they have dropout. The others use the running statistics, without
        dropout.
    """

    make_backbone: Callable[..., Backbone]
    make_heads: tuple[tuple[str, Callable[..., Part]], ...] = ()
    batch_statistics: tuple[str, ...] = ()

    def setup(self) -> None:
        """Makes the parts."""
        self._backbone = self._part("backbone", self.make_backbone)
        for name, make in self.make_heads:
            setattr(self, name, self._part(name, make))

    def _part(self, name: str, make: Callable[..., Any]) -> Any:
        return make(name=name, batch_statistics=name in self.batch_statistics)

    def backbone(self, images: jax.Array, view: int = 0) -> jax.Array:
        """Features of images.

        Args:
          images: float32[B, H, W, 3], or with views in between, float32[B, V, …, H, W, 3].
          view: the number of the views of an image that earlier calls had, so that dropout differs.

        Returns:
          [B, D] or [B, V, …, D].
        """
        views = images.shape[1:-3]
        flat = images.reshape(-1, *images.shape[-3:])
        features = self._backbone(flat, self._view_keys(views, view))
        return features.reshape(images.shape[0], *views, features.shape[-1])

    def tokens(
        self,
        images: jax.Array,
        keep: jax.Array | None = None,
        masked: jax.Array | None = None,
        mask_token: jax.Array | None = None,
        view: int = 0,
    ) -> jax.Array:
        """The normalised tokens of images, see `Backbone.tokens`.

        Args:
          images: float32[B, H, W, 3], or with views in between, float32[B, V, …, H, W, 3].
          keep: int32[B, V, …, K] or None.
          masked: bool[B, V, …, N] or None.
          mask_token: float32[D] or None.
          view: see `backbone`.

        Returns:
          [B, T, D] or [B, V, …, T, D].
        """
        views = images.shape[1:-3]
        flat = images.reshape(-1, *images.shape[-3:])
        keep, masked = (
            None if chosen is None else chosen.reshape(-1, chosen.shape[-1])
            for chosen in (keep, masked)
        )
        keys = self._view_keys(views, view)
        tokens = self._backbone.tokens(flat, keep, keys, masked, mask_token)
        return tokens.reshape(images.shape[0], *views, *tokens.shape[1:])

    @property
    def token_channels(self) -> int:
        """The number of a token's channels, see `Backbone.token_channels`."""
        return self._backbone.token_channels

    def layers(self, images: jax.Array) -> dict[str, jax.Array]:
        """The outputs of the backbone's layers by name, for float32[B, H, W, 3] images."""
        return self._backbone.layers(images)

    def attention(self, images: jax.Array) -> jax.Array:
        """See `ssljax.models.vit.ViT.attention`."""
        found: jax.Array = self._backbone.attention(images)
        return found

    def _view_keys(self, views: tuple[int, ...], first: int) -> jax.Array | None:
        """A key for each image: those of the records, or ones derived from them for each view.

        None without dropout.
        """
        if "backbone" not in self.batch_statistics or not self.has_variable(_KEYS, "records"):
            return None
        keys: jax.Array = self.get_variable(_KEYS, "records")
        if first:
            keys = streams.fold_in(keys, streams.LATER_VIEWS + first)
        for count in views:
            keys = streams.fold_in(keys[..., None], jax.numpy.arange(count))
        return keys.reshape(-1)


def variables(
    params: Mapping[str, Any], stats: Mapping[str, Any], keys: jax.Array | None = None
) -> dict[str, Any]:
    """What `Network.apply` takes.

    Args:
      params: parameters by part.
      stats: batch statistics by part; {} if the network has none.
      keys: key[B], one for each record, for dropout; None runs without dropout.
    """
    given: dict[str, Any] = {"params": params}
    if stats:
        given[COLLECTION] = stats
    if keys is not None:
        given[_KEYS] = {"records": streams.fold_in(keys, streams.DROPOUT)}
    return given
