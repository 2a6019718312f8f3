"""Networks for tests."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.models import check_model, make_network, model_defaults
from ssljax.models.heads import Linear
from ssljax.models.network import variables
from ssljax.models.torch import vit


def outputs(net, images):
    """A head on a backbone."""
    return net.head(net.backbone(images))


def timm_blocks(params, prefix: str) -> dict[str, np.ndarray]:
    """The stacked `blocks` of a head, under timm's names after a prefix."""
    state = {}
    for ours, (theirs, leaves) in vit._BLOCK.items():
        for leaf in leaves:
            for number, value in enumerate(np.asarray(params["blocks"][ours][leaf.name])):
                name = f"{prefix}.{number}.{theirs}.{leaf.torch_name}"
                state[name] = value.T if leaf.name == "kernel" else value
    return state


class Classifier:
    """A backbone with a linear head."""

    def __init__(self, classes: int, **options):
        defaults = model_defaults(options.get("name", "alexnet"))
        config = {**defaults, "dtype": "float32", **options}
        check_model(config)
        self.network = make_network(config, {"head": functools.partial(Linear, features=classes)})

    def shapes(self, size: int = 64):
        return jax.eval_shape(lambda: self._init(jax.random.key(0), size))

    def init_all(self, key=None, size: int = 64):
        """The parameters and the batch statistics."""
        key = jax.random.key(0) if key is None else key
        return self.network.init(key, jnp.zeros((1, size, size, 3)), method=outputs)

    def _init(self, key, size):
        return self.init_all(key, size)["params"]

    def init(self, size: int = 64, seed: int = 0):
        fast = {"xla_backend_optimization_level": 0}  # to compile
        return jax.jit(self._init, static_argnums=1, compiler_options=fast)(
            jax.random.key(seed), size
        )

    def __call__(self, params, images, keys=None):
        """With keys, it is trained: it has dropout."""
        trained = ("backbone", "head") if keys is not None else ()
        network = self.network.clone(batch_statistics=trained)
        return network.apply(variables(params, {}, keys), images, method=outputs)
