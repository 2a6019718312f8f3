"""Learning rates that fall from the last layer of a backbone to the first, for fine-tuning."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ssljax.models import model_class, paths
from ssljax.settings.errors import InputError

_BACKBONE = "backbone/"


def scale_by_layer(config: ConfigDict) -> optax.GradientTransformation:
    """Multiplies updates by decay^n, n layers below the top; heads and the last norm keep theirs.

    Source: Clark et al. (2020), "ELECTRA", appendix A; for vision transformers Bao et al. (2022),
    "BEiT", appendix D, and He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners",
    appendix A.1.

    Args:
      config: of the run, with `optimizer.layer_decay` and `model`.

    Raises:
      InputError: the backbone does not say the order of its layers.
    """
    decay, options = config.optimizer.layer_decay, config.model.to_dict()
    layers = model_class(config.model.name).layer_order(options)
    if not layers:
        raise InputError(
            f"optimizer.layer_decay must be 1: {config.model.name} does not say the order of its "
            "layers (Backbone.layer_order)"
        )
    sizes = [options["depth"] if paths.STACKED in layer else 1 for layer in layers]
    total = sum(sizes)

    def factor(path: str) -> np.ndarray:
        """float[], or float[depth] for stacked layers."""
        below = 0
        for layer, size in zip(layers, sizes, strict=True):
            if any(paths.matching_paths(f"{_BACKBONE}{pattern}", [path]) for pattern in layer):
                exponents = total - below - np.arange(size)
                return decay ** (exponents if paths.STACKED in layer else exponents[0])
            below += size
        return np.ones(())

    def scale(keys: Any, update: jax.Array) -> jax.Array:
        own = jnp.asarray(factor(paths.path_of(keys)), update.dtype)
        return update * own.reshape(*own.shape, *[1] * (update.ndim - own.ndim))

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))
