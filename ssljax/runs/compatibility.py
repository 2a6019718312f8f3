"""Checks that the method, the backbone and the image size of a config fit each other."""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from ssljax.methods import method_class
from ssljax.methods.method import Method
from ssljax.models import MODELS, model_class, model_defaults
from ssljax.settings.errors import InputError


def check_backbone(config: ConfigDict) -> None:
    """Checks that the backbone computes what the method needs, with the options that it needs.

    Raises:
      InputError: it does not.
    """
    method, model = config.method.name, config.model
    if method_class(method).needs_tokens and not model_class(model.name).patch_side(model):
        known = ", ".join(
            name for name in MODELS if model_class(name).patch_side(model_defaults(name))
        )
        raise InputError(
            f"model.name: {method} needs a backbone that computes tokens of patches, "
            f"which {model.name} does not; use one of {known}"
        )
    needed = method_class(method).needs_model
    if wrong := [key for key, value in needed.items() if model.get(key, value) != value]:
        wanted = ", ".join(f"model.{key}={_text(needed[key])}" for key in wrong)
        given = ", ".join(_text(model[key]) for key in wrong)
        raise InputError(f"model.{wrong[0]}: {method} needs {wanted}, got {given}")


def check_sides(model: ConfigDict, method: Method) -> None:
    """Checks that images are large enough for a network, and consist of whole patches.

    Args:
      model: the config of the network.
      method: what it is trained with.

    Raises:
      InputError: they are not, or do not.
    """
    smallest = model_class(model.name).smallest_image
    if method.image_size < smallest:
        raise InputError(
            f"data.image_size: images of {method.image_size} px are too small for "
            f"{model.name}, which needs at least {smallest} px"
        )
    if method.smallest_input < smallest:
        raise InputError(
            f"{method.smallest_input_is} of {method.smallest_input} px, too small for "
            f"{model.name}, which needs at least {smallest} px; use a larger "
            "data.image_size or another network"
        )
    patch = model_class(model.name).patch_side(model)
    if not patch or _has_whole_patches(method, patch):
        return
    if method.image_size % patch:
        fault = f"data.image_size: images of {method.image_size} px do not consist of"
    else:
        fault = f"{method.smallest_input_is} of {method.smallest_input} px, which do not consist of"
    if sizes := _suitable_sizes(method, patch):
        cure = "use " + " or ".join(f"data.image_size={size}" for size in sizes)
    else:
        cure = f"change data.image_size and {method.smallest_input_is.partition(':')[0]}"
    raise InputError(
        f"{fault} whole patches of {patch} px (model.patch); {cure}, or use another model.patch"
    )


def _has_whole_patches(method: Method, patch: int) -> bool:
    return method.image_size % patch == 0 and method.smallest_input % patch == 0


def _suitable_sizes(method: Method, patch: int) -> list[int]:
    """The next smaller and the next larger `data.image_size` whose images have whole patches."""
    size = method.data.image_size
    searches = range(size - 1, patch - 1, -1), range(size + 1, 4 * size + patch)
    found = (next((s for s in search if _is_suitable(method, patch, s)), 0) for search in searches)
    return [size for size in found if size]


def _is_suitable(method: Method, patch: int, image_size: int) -> bool:
    try:
        data = dataclasses.replace(method.data, image_size=image_size)
        return _has_whole_patches(dataclasses.replace(method, data=data), patch)
    except InputError:
        return False


def _text(value: Any) -> str:
    """A value as it is set on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
