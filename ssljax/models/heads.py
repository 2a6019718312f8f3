"""Heads: what a method puts on top of the backbone."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models import float32_bias
from ssljax.models.backbone import Part
from ssljax.models.batch_norm import BatchNorm
from ssljax.models.gelu import gelu
from ssljax.models.initializers import initializers


class Linear(Part):
    """One dense layer.

    Attributes:
      features: the number of outputs.
    """

    features: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, D] to float32[B, features]."""
        kernel_init, bias_init = initializers(self.initializer, x.shape[-1])
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return jnp.dot(x, kernel).astype(jnp.float32) + bias


class MLP(Part):
    """Dense layers with batch normalisation and ReLU between them.

    Attributes:
      sizes: outputs of the layers; 0 is the number of the head's inputs.
      use_bias: the dense layers but the last have biases.
      output_bias: the last dense layer has a bias.
      norm: there is batch normalisation between them.
      gelu: GELU instead of ReLU.
      output_norm: the last layer has batch normalisation, too.
      output_scale: that has a learned scale.
      output_shift: that has a learned bias.
    """

    sizes: tuple[int, ...] = ()
    use_bias: bool = True
    output_bias: bool = True
    norm: bool = True
    gelu: bool = False
    output_norm: bool = False
    output_scale: bool = True
    output_shift: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[…, D] to float32[…, sizes[-1]]."""
        inputs = x.shape[-1]
        last = len(self.sizes) - 1
        for index, size in enumerate(self.sizes):
            kernel_init, bias_init = initializers(self.initializer, x.shape[-1])
            x = nn.Dense(
                size or inputs,
                use_bias=self.use_bias if index < last else self.output_bias,
                dtype=self.dtype,
                kernel_init=kernel_init,
                bias_init=bias_init,
                promote_dtype=float32_bias.promote_dtype,
                name=f"dense{index + 1}",
            )(x)
            if index < last:
                x = x.astype(self.dtype)
            if self.norm if index < last else self.output_norm:
                x = BatchNorm(
                    self.batch_statistics,
                    use_scale=index < last or self.output_scale,
                    use_bias=index < last or self.output_shift,
                    dtype=jnp.float32 if index == last else self.dtype,
                    name=f"norm{index + 1}",
                )(x)
            if index < last:
                x = gelu(x) if self.gelu else nn.relu(x)
        return x.astype(jnp.float32)


class Prototypes(Part):
    """Cosines between embeddings and learned directions, without biases.

    Attributes:
      count: of the prototypes.
      normalize: divide the kernel by its norms when it is used. Otherwise the method keeps the
        norms at 1, see `Method.constrain`.
      learn_lengths: with `normalize`, the directions are multiplied by learned lengths, 1 at first.
    """

    count: int = 0
    normalize: bool = False
    learn_lengths: bool = False

    @nn.compact
    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """float32[…, D], of length 1, to float32[…, count]."""
        kernel_init, _ = initializers(self.initializer, embeddings.shape[-1])

        def directions(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            made = kernel_init(key, shape, jnp.float32)
            return made if self.normalize else unit_columns(made)

        kernel = self.param("kernel", directions, (embeddings.shape[-1], self.count))
        used = unit_columns(kernel) if self.normalize else kernel
        if self.learn_lengths:
            used *= self.param("lengths", nn.initializers.ones, (1, self.count))
        return jnp.matmul(embeddings.astype(jnp.float32), used, precision="highest")


class MaskToken(Part):
    """What a vision transformer sees in the place of masked patches; see `Backbone.tokens`.

    It is 0 at first, as in the official code of iBOT.
    """

    @nn.compact
    def __call__(self, channels: int) -> jax.Array:
        """float32[channels]."""
        token: jax.Array = self.param("token", nn.initializers.zeros, (1, channels))
        return token[0]


def unit_columns(kernel: jax.Array) -> jax.Array:
    """float32[D, K] with columns of length 1."""
    return kernel * jax.lax.rsqrt(jnp.maximum(jnp.sum(kernel**2, axis=0), 1e-24))
