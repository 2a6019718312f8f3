"""Backbones by name. A new one is a file in this folder and a line in the table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.models.alexnet import AlexNet
from ssljax.models.backbone import Backbone, BackboneOptions, Part
from ssljax.models.network import Network
from ssljax.models.resnet import ResNet10, ResNet18, ResNet34, ResNet50
from ssljax.models.vit import ViTBase, ViTSmall, ViTTiny
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.options import check_group, defaults

MODELS: dict[str, type[Backbone]] = {
    "alexnet": AlexNet,
    "resnet10": ResNet10,
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vit_tiny": ViTTiny,
    "vit_small": ViTSmall,
    "vit_base": ViTBase,
}
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def model_class(name: str) -> type[Backbone]:
    """The backbone of a name.

    Raises:
      InputError: there is none; the nearest known name is given.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise InputError(
            f"model.name: unknown model {name!r}; {nearest(name, MODELS)}, or name your own module "
            "with --plugin=MODULE"
        )
    return MODELS[name]


def model_defaults(name: str) -> dict[str, Any]:
    """The group `config.model` of a backbone, with its defaults."""
    return {"name": name, **defaults(BackboneOptions, model_class(name))}


def check_model(config: Mapping[str, Any]) -> None:
    """Checks `config.model`.

    Raises:
      InputError: an unknown name or option, a value of another type or out of range, or options
        that do not fit each other.
    """
    given = dict(config)
    name = given.pop("name", "")
    check_group(given, BackboneOptions, model_class(name), group="model", owner=name)
    model_class(name).check_options({**defaults(model_class(name)), **given})


def automatic_dtype(platform: str) -> str:
    """What dtype `auto` is on `cpu`, `gpu` or `tpu`; XLA's bfloat16 is slower on a CPU."""
    return "float32" if platform == "cpu" else "bfloat16"


def make_network(
    config: Mapping[str, Any],
    heads: Mapping[str, Callable[..., Part]],
    batch_statistics: tuple[str, ...] = (),
) -> Network:
    """Makes the network of a backbone and some heads.

    Args:
      config: `config.model`, checked.
      heads: makes each head, given keyword arguments of `Part`.
      batch_statistics: see `Network`.
    """
    given = dict(config)
    name, dtype = given.pop("name"), given.pop("dtype")
    if dtype == "auto":
        dtype = automatic_dtype(jax.default_backend())
    common = {"dtype": _DTYPES[dtype], "remat": given.pop("remat")}
    backbone = functools.partial(model_class(name), **given, **common)
    if "initializer" in given:
        common["initializer"] = given["initializer"]
    return Network(
        backbone,
        tuple((head, functools.partial(make, **common)) for head, make in heads.items()),
        batch_statistics,
    )
