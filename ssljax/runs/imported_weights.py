"""Weights of other libraries as a run folder."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.methods import FEATURES, method_class
from ssljax.models import positions
from ssljax.models.torch import description as descriptions
from ssljax.models.torch import layouts, vit
from ssljax.models.torch.description import Description
from ssljax.models.torch.layout import HEAD, Weights
from ssljax.models.torch.layouts import TorchWeights
from ssljax.runs import exported_folder
from ssljax.runs.checkpoints import BEST, Checkpoints
from ssljax.runs.config import resolve, train_config
from ssljax.runs.folder import open_run_folder
from ssljax.runs.run import make_run
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say


def import_weights(
    source: str | pathlib.Path,
    workdir: str | pathlib.Path,
    given: Description | None = None,
    init_part: str = "student",
) -> Description:
    """Turns weights into a run folder, which can be evaluated, started from and exported again.

    A file of torchvision's AlexNet or ResNet, or of timm's vision transformer, becomes a run of
    classification; without a last layer, one that only computes features. So do checkpoints of
    MoCo, DINO, MAE and DINOv2, see `ssljax.models.torch.published`. A folder that
    `ssljax.weights` has exported becomes a run of the same method. Using it does not need PyTorch.

    Args:
      source: `.pth` or `.safetensors`, or a folder with `model.safetensors` and `config.json`.
      workdir: the folder; it must not hold a run yet.
      given: how images are prepared, and the classes; it is added to what the source says, and
        comes before it.
      init_part: which network of a checkpoint that has two: `student` or `teacher`.

    Returns:
      What the source says and what was given. Classes without names are numbered.

    Raises:
      InputError: the source holds no such network (what is missing, extra or of another shape is
        listed), it is not known how images are prepared for it, or the folder exists already.
    """
    path, given = pathlib.Path(os.path.expanduser(source)), given or descriptions.UNKNOWN
    file = path / exported_folder.WEIGHTS if path.is_dir() else path
    config = exported_folder.read_config(path) if path.is_dir() else None
    description = descriptions.read(file).updated(given)
    if config is None and (missing := description.missing()):
        flags_ = ", ".join(f"--{name}" for name in missing)
        raise InputError(
            f"{source} does not say how images are prepared for it; give {flags_}, or --imagenet "
            "for torchvision's weights of ImageNet"
        )
    folder = storage.path(workdir, "RUN")
    if folder.exists() and not (
        folder.is_dir() and {path.name for path in folder.iterdir()} <= {".lock"}
    ):
        raise InputError(f"{folder} exists already; name a new folder")
    found = layouts.read_file(file, init_part)
    if found.title:
        say(f"{file} is a checkpoint of {found.title}")
    if found.left_out:
        say(f"left out: {found.left_out}")
    step, epoch = (description.step or 0, description.epoch or 0) if config else (0, 0)
    if config is None:
        config = _config(description, found)
    else:
        _describe(config, given)
    kept = _used(config, found.weights)
    params, stats = kept
    names: tuple[str, ...] = ()
    if method_class(config.method.name).names_classes:
        if "head" not in params:
            raise InputError(
                f"{file} has no last layer ({found.layout.head}), so it names no classes"
            )
        outputs = params["head"]["bias"].shape[0]
        names = description.class_names or tuple(str(index) for index in range(outputs))
        if len(names) != outputs:
            raise InputError(
                f"--class_names: there are {len(names)} names, but {file} has {outputs} outputs"
            )
    elif given.class_names:
        raise InputError(f"--class_names: the network of {file} names no classes")
    run = make_run(resolve(config), names)
    _fit_positions(params, run.variable_shapes()[0])
    found.layout.check_shapes(kept, run.variable_shapes(), str(file))
    parts = jax.tree.map(jnp.asarray, {"params": params, "stats": stats})
    metadata = {
        "method": run.config.method.name,
        "epoch": epoch,
        "class_names": list(names),
    }
    try:
        open_run_folder(folder, run.config)
        checkpoints = Checkpoints(folder)
        checkpoints.save(BEST, step, parts, metadata)
        checkpoints.wait()
        checkpoints.close()
    except BaseException:  # so that the same call can be made again
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return description


def _config(description: Description, found: TorchWeights) -> ConfigDict:
    method = "classification" if HEAD in found.weights.params else FEATURES
    config = train_config(method, found.model["name"])
    config.model.update(found.model)
    if "heads" in config.model:
        usual = vit.HEADS.get(vit.channels_of(config.model), config.model.heads)
        config.model.heads = description.heads or found.heads or usual
    config.data.dataset = "unknown"
    _describe(config, description)
    return config


def _used(config: ConfigDict, weights: Weights) -> Weights:
    """What a run without heads uses of a network's parts; all of them for another run."""
    if config.method.name != FEATURES:
        return weights
    if others := [name for name in weights.params if name != "backbone"]:
        say(f"left out: {', '.join(others)}")
    parts = ({key: tree[key] for key in tree if key == "backbone"} for tree in weights)
    return Weights(*parts)


def _fit_positions(params: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Interpolates learned positions of another image size, in place."""
    learned, wanted = (tree["backbone"].get(positions.NAME) for tree in (params, shapes))
    if learned is None or wanted is None or learned.shape == wanted.shape:
        return
    if positions.fits(learned.shape, wanted.shape):
        params["backbone"][positions.NAME] = positions.carried(learned, wanted.shape)
        say("positions are interpolated, since those of the file are for images of another size")


def _describe(config: ConfigDict, description: Description) -> None:
    """Sets what a description knows about the data."""
    for name, value in description.known().items():
        if name in config.data:
            config.data[name] = value
