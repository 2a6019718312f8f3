"""Methods by name. A new one is a file in this folder and a line in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssljax.methods.barlow_twins import BarlowTwins
from ssljax.methods.byol import BYOL
from ssljax.methods.classification import Classification
from ssljax.methods.dino import DINO
from ssljax.methods.features import Features
from ssljax.methods.ibot import IBOT
from ssljax.methods.ijepa import IJEPA
from ssljax.methods.jigsaw import Jigsaw
from ssljax.methods.jigsaw_permutations import JigsawPermutations
from ssljax.methods.mae import MAE
from ssljax.methods.method import DataSpec, Method
from ssljax.methods.moco import MoCo, MoCoV2
from ssljax.methods.relative_patch import RelativePatch
from ssljax.methods.rotation import Rotation
from ssljax.methods.simclr import SimCLR
from ssljax.methods.simsiam import SimSiam
from ssljax.methods.swav import SwAV
from ssljax.methods.vicreg import VICReg
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.options import check_group, defaults

METHODS: dict[str, type[Method]] = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "classification": Classification,
    "dino": DINO,
    "ijepa": IJEPA,
    "ibot": IBOT,
    "jigsaw": Jigsaw,
    "jigsaw_permutations": JigsawPermutations,
    "mae": MAE,
    "moco": MoCo,
    "moco_v2": MoCoV2,
    "relative_patch": RelativePatch,
    "rotation": Rotation,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "swav": SwAV,
    "vicreg": VICReg,
}
# Of imported weights without a head. It trains nothing, so it is not offered as a method.
FEATURES = "features"


def method_class(name: str) -> type[Method]:
    """The method of a name.

    Raises:
      InputError: there is none; the nearest known name is given.
    """
    if not name:
        raise InputError("method.name is not set")
    if name == FEATURES:
        return Features
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(
            f"method.name: unknown method {name!r}; {nearest(name, METHODS)}, or name your own "
            "module with --plugin=MODULE"
        )
    return METHODS[name]


def method_defaults(name: str) -> dict[str, Any]:
    """The group `config.method` of a method, with its defaults."""
    return {"name": name, **defaults(method_class(name))}


def check_method(config: Mapping[str, Any]) -> None:
    """Checks `config.method`.

    Raises:
      InputError: an unknown name or option, a value of another type or out of range.
    """
    given = dict(config)
    name = given.pop("name", "")
    check_group(given, method_class(name), group="method", owner=name)


def make_method(config: Mapping[str, Any], data: DataSpec) -> Method:
    """Makes the method that `config.method` describes.

    Args:
      config: `config.method`.
      data: what the method knows about the data.

    Raises:
      InputError: see `check_method`; or the options do not fit each other or the data.
    """
    check_method(config)
    given = dict(config)
    return method_class(given.pop("name"))(**given, data=data)
