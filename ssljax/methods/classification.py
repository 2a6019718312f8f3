"""Classification with cross entropy: the downstream method."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.methods.method import Batch, Context, Method, Metrics, Tree
from ssljax.methods.view_method import canvases, check_views
from ssljax.models.heads import Linear
from ssljax.settings.errors import InputError
from ssljax.settings.options import option
from ssljax.views import mixing, recipes
from ssljax.views.augment import centre_squares, make_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Method):
    """Predict the image's class."""

    views: str = option(
        "",
        "recipe of one view, see docs/views.md, to augment images when training; empty: squares, "
        "see data.random_crop",
        carried_over=False,  # the recipes of other methods make several
    )
    label_smoothing: float = option(
        0.0, "the share of the target that all classes get in equal parts", at_least=0, below=1
    )
    mixup: float = option(
        0.0, "blend pairs of images: α of Beta(α, α); 0: do not", at_least=0, at_most=1000
    )
    cutmix: float = option(
        0.0, "cut parts of one image into another: α of Beta(α, α); 0: do not; with mixup: either",
        at_least=0, at_most=1000,
    )  # fmt: skip

    needs_labels: ClassVar[bool] = True
    names_classes: ClassVar[bool] = True
    best_metric: ClassVar[str] = "top1"
    hand_over: ClassVar[str] = "best"

    def __post_init__(self) -> None:
        if self.data.num_classes < 2:
            raise InputError(
                "method.name: classification needs labels of at least two classes, "
                f"but the data set has {self.data.num_classes}"
            )
        if self.views:
            check_views(self.views, self.delivered_size, self.image_size)
            groups = recipes.recipe(self.views).values()
            if sum(len(group.views) for group in groups) > 1:
                raise InputError(
                    f"method.views: {self.views} makes several views; classification takes one, "
                    "as of `supervised`, `padding_crop` or `mae`"
                )

    @property
    def needs_canvas(self) -> bool:
        """Augmented views are made of whole images."""
        return bool(self.views)

    @property
    def rows_together(self) -> int:
        """Pairs of images are mixed."""
        return 2 if self.mixup or self.cutmix else 1

    def inputs(self, batch: Batch, keys: jax.Array, train: bool) -> Tree:
        """float32[B, S, S, 3]: views when training, otherwise centre squares.

        If pairs are mixed, `images` and `share`, see `ssljax.views.mixing.mix`.
        """
        images = self._images(batch, keys, train)
        if not train or self.rows_together == 1 or len(images) == 1:  # one gives the shapes
            return images
        mixed, share = mixing.mix(images, keys, self.mixup, self.cutmix)
        return {"images": mixed, "share": share}

    def outputs(self, net: Any, inputs: Tree) -> jax.Array:
        """float32[B, K]: logits."""
        return super().outputs(net, inputs["images"] if isinstance(inputs, dict) else inputs)

    def _images(self, batch: Batch, keys: jax.Array, train: bool) -> jax.Array:
        if not self.views:
            return super().inputs(batch, keys, train)
        images, sizes = canvases(batch)
        if not train:
            return self.normalize(centre_squares(images, sizes, self.image_size))
        recipe = recipes.recipe(self.views)
        return self.normalize(
            make_views(images, sizes, keys, recipe, self.image_size)["global"][:, 0]
        )

    def heads(self) -> dict[str, Callable[..., Any]]:
        """One logit per class."""
        return {"head": functools.partial(Linear, features=self.data.num_classes)}

    def loss(self, outputs: jax.Array, context: Context) -> jax.Array:
        """float32[B]: softmax cross entropy, in nats.

        The target of a mixed image has the classes of both, by their shares.

        Source of the smoothing: Szegedy et al. (2016), "Rethinking the Inception Architecture",
        section 7.
        """
        target = jax.nn.one_hot(context.batch["label"], self.data.num_classes)
        if isinstance(context.inputs, dict):
            share = context.inputs["share"][:, None]
            target = share * target + (1 - share) * mixing.partners(target)
        return optax.softmax_cross_entropy(
            outputs, optax.smooth_labels(target, self.label_smoothing)
        )

    def metrics(self, outputs: jax.Array, context: Context) -> Metrics:
        """top1, top3, top5 and class_mean (top-1 within each class, then the mean over classes)."""
        label, classes = context.batch["label"], self.data.num_classes
        own = jnp.take_along_axis(outputs, label[:, None], axis=-1)
        # Ties go to the lower class, as in a sort, so that a constant output is right for few.
        earlier = jnp.arange(classes)[None, :] < label[:, None]
        rank = jnp.sum((outputs > own) | ((outputs == own) & earlier), axis=-1)
        # NaN compares False with everything.
        rank = jnp.where(jnp.isnan(outputs).any(axis=-1), classes, rank)
        one = jnp.ones(label.shape, jnp.float32)
        top = {f"top{k}": ((rank < k).astype(jnp.float32), one) for k in (1, 3, 5)}
        true = jax.nn.one_hot(label, classes)
        return {**top, "class_mean": (true * top["top1"][0][:, None], true)}

    def chance(self, labels: np.ndarray) -> dict[str, float]:
        """Always the most frequent classes, the most frequent first."""
        counts = np.sort(np.bincount(labels, minlength=self.data.num_classes))[::-1]
        top = {f"top{k}": float(counts[:k].sum() / counts.sum()) for k in (1, 3, 5)}
        return {**top, "class_mean": 1 / int((counts > 0).sum())}
