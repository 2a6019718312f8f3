"""A method and a backbone that use everything the contracts offer, for tests: `--plugin`.

The backbone has batch normalisation and dropout. The method compares two views with a teacher's
outputs and with those of earlier steps, which it keeps in a queue.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.methods import METHODS
from ssljax.methods.method import Method
from ssljax.models import MODELS, collectives
from ssljax.models.backbone import Backbone, block_output
from ssljax.models.batch_norm import BatchNorm
from ssljax.models.heads import Linear
from ssljax.settings.options import option
from ssljax.views import keys as streams


class SmallNet(Backbone):
    width: int = option(8, "channels", above=0)
    normalize: bool = option(True, "has batch normalisation")
    dropout: float = option(0.0, "rate", at_least=0, below=1)

    smallest_image: ClassVar[int] = 8

    def __call__(self, images, keys=None):
        return self.layers(images, keys)["pooled"]

    @nn.compact
    def layers(self, images, keys=None):
        x = nn.Conv(self.width, (3, 3), strides=2, padding=1, dtype=self.dtype, name="conv")(images)
        if self.normalize:
            x = BatchNorm(self.batch_statistics, dtype=self.dtype, name="norm")(x)
        x = block_output(nn.relu(x))
        batch, height, _, channels = x.shape
        cells = x[:, : height // 4 * 4, : height // 4 * 4].reshape(
            batch, 4, height // 4, 4, height // 4, channels
        )
        pooled = cells.mean(axis=(2, 4)).reshape(batch, -1)
        if keys is not None and self.dropout:
            rate = 1 - self.dropout
            keep = jax.vmap(lambda key: jax.random.bernoulli(key, rate, pooled.shape[1:]))(keys)
            pooled = jnp.where(keep, pooled / rate, 0)
        return {"conv": x, "pooled": pooled}


def unit(x):
    return x / jnp.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Follow(Method):
    queue: int = option(64, "outputs of earlier steps to compare with", above=0)

    couples_examples: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = True
    uses_progress: ClassVar[bool] = True

    def heads(self):
        return {
            "projector": functools.partial(Linear, features=8),
            "predictor": functools.partial(Linear, features=8),
        }

    def inputs(self, batch, keys, train):
        images = self.normalize(batch["image"])
        if not train:
            return jnp.stack([images, images], axis=1)
        noise = jax.vmap(lambda key: jax.random.normal(key, (2, *images.shape[1:])))(
            streams.fold_in(keys, streams.VIEWS)
        )
        return images[:, None] + 0.1 * noise  # [B, 2, S, S, 3]

    def outputs(self, net, inputs):
        return unit(net.predictor(net.projector(net.backbone(inputs))))

    def targets(self, net, inputs):
        return unit(net.projector(net.backbone(inputs)))

    def teacher_momentum(self, progress):
        return 0.9 + 0.1 * progress

    def first_memory(self):
        return {"queue": jnp.zeros((self.queue, 8))}

    def remember(self, outputs, context):
        new = collectives.gather(context.targets[:, 0])
        return {"queue": jnp.concatenate([new, context.memory["queue"]])[: self.queue]}

    def loss(self, outputs, context):
        positives = ((outputs - context.targets[:, ::-1]) ** 2).mean(axis=(1, 2))
        everyone = collectives.gather(context.targets[:, 0])
        others = jnp.concatenate([everyone, context.memory["queue"]])
        return positives + 0.01 * (outputs[:, 0] @ others.T).mean(axis=-1)

    def metrics(self, outputs, context):
        size = jnp.abs(outputs).mean(axis=(1, 2))
        return {"size": (size, jnp.ones_like(size))}


METHODS["follow"] = Follow
MODELS["small_net"] = SmallNet
