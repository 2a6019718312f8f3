"""Starting from weights that another run or PyTorch has trained: the bridge between the stages."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax import storage
from ssljax.data import fashion_mnist_10k
from ssljax.errors import InputError
from ssljax.models import torch_weights
from ssljax.training.checkpoints import Checkpoints, flat_shapes
from ssljax.training.layers import match
from ssljax.training.parallelism import place
from ssljax.training.run_folder import read_config


def load_source(config: ConfigDict) -> tuple[dict[str, Any], str]:
    """Reads the parameters that `config.init_from` names.

    Args:
      config: of the run that starts from them.

    Returns:
      The parameters by layer, and a description of where they came from.

    Raises:
      InputError: neither a run with a checkpoint nor a readable file of weights.
    """
    path = storage.path(config.init_from, "init_from")
    if path.suffix in torch_weights.SUFFIXES:
        if storage.is_remote(path):
            raise InputError(f"init_from: {path}: files of weights are read from disks; copy it")
        return torch_weights.load_alexnet(path), str(path)
    if not path.is_dir():
        raise InputError(
            f"init_from: {path} is neither a run folder nor a file of weights "
            f"({', '.join(torch_weights.SUFFIXES)})"
        )
    from ssljax.tasks import TASKS

    source = read_config(path)
    check_apart(source, config)
    task = source.task.name
    if task not in TASKS:
        raise InputError(f"init_from: {path} is a run of the unknown task {task!r}")
    checkpoints = Checkpoints(path, read_only=True)
    try:
        kind, step = checkpoints.find(TASKS[task].hand_over)
        return checkpoints.restore_params(kind, step), f"{path} ({task}, {kind}, step {step})"
    finally:
        checkpoints.close()


def check_apart(source: ConfigDict, config: ConfigDict) -> None:
    """Refuses to test on images that the pretext task was trained on.

    Args:
      source: the config of the run that hands its weights over.
      config: the config of the run that starts from them.

    Raises:
      InputError: the source's training images are among the test images.
    """
    ours, theirs = (run.data.dataset.split("/")[0].split(":")[0] for run in (config, source))
    tested = config.data.test_split + config.data.validation_split
    if theirs == fashion_mnist_10k.NAME and ours == "fashion_mnist" and "test" in tested:
        raise InputError(
            f"init_from: {fashion_mnist_10k.NAME} is Fashion-MNIST's test set: what was trained "
            "on it cannot be tested on fashion_mnist's split test"
        )


def choose_layers(params: Mapping[str, Any], source: Mapping[str, Any], layers: str) -> set[str]:
    """The layers that are carried over; looks at shapes only.

    Args:
      params: fresh parameters by layer.
      source: parameters by layer.
      layers: comma-separated layer names or shell patterns, such as `conv*,fc6`.

    Raises:
      InputError: a pattern matches no layer of both, or a parameter has another shape.
    """
    chosen = match(layers, params, "init_layers")
    if missing := sorted(chosen - set(source)):
        raise InputError(f"init_layers: the source has no layer {', '.join(missing)}")
    if not chosen:
        raise InputError("init_layers names no layer, so nothing of init_from would be loaded")
    for layer in sorted(chosen):
        wanted, given = flat_shapes(params[layer]), flat_shapes(source[layer])
        for name in sorted(wanted | given):
            if wanted.get(name) != given.get(name):
                raise InputError(
                    f"init_from: {layer}/{name} is {given.get(name, 'missing')} in the source "
                    f"and {wanted.get(name, 'missing')} in this model; leave {layer} out of "
                    "init_layers, or give both the same model settings"
                )
    return chosen


def carry_over(
    params: Mapping[str, Any], source: Mapping[str, Any], layers: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replaces the chosen layers' fresh parameters with the source's.

    Args:
      params: fresh parameters by layer, on the devices.
      source: parameters by layer.
      layers: see `choose_layers`.

    Returns:
      The parameters, and a report: the names of the model's parameters that were `loaded` or are
      `fresh`, and of the source's that were `skipped`.

    Raises:
      InputError: see `choose_layers`.
    """
    chosen = choose_layers(params, source, layers)
    result = {
        layer: jax.tree.map(lambda old, new: place(new, old.sharding), params[layer], source[layer])
        if layer in chosen
        else params[layer]
        for layer in params
    }
    ours, theirs = flat_shapes(params), flat_shapes(source)
    loaded = [name for name in ours if name.partition("/")[0] in chosen]
    return result, {
        "loaded": loaded,
        "fresh": [name for name in ours if name not in loaded],
        "skipped": [name for name in theirs if name not in loaded],
    }


def fingerprint(source: Mapping[str, Any], layers: str) -> str:
    """A hash of what is carried over, to tell whether two starts are the same."""
    digest = hashlib.sha256()
    for layer in sorted(match(layers, source, "init_layers")):
        for name, leaf in sorted(source[layer].items()):
            digest.update(f"{layer}/{name}".encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def check_same_start(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes sure that a run which goes on was started from what `init_from` names now.

    Raises:
      InputError: it was started from something else.
    """
    try:
        report = json.loads((workdir / "init.json").read_text())
        if not isinstance(report["from"], str) or not isinstance(report["fingerprint"], str):
            raise TypeError("from and fingerprint are no texts")
    except FileNotFoundError:
        report = None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{workdir / 'init.json'} is damaged: {error}") from error
    if not config.init_from and report is None:
        return
    if report is None or not config.init_from:
        was = "random weights" if report is None else report["from"]
        raise InputError(
            f"--workdir: {workdir} was started from {was}, not from "
            f"{config.init_from or 'random weights'}; name another folder"
        )
    if not storage.path(config.init_from, "init_from").exists():
        return  # it has done its part
    source, origin = load_source(config)
    if fingerprint(source, config.init_layers) != report["fingerprint"]:
        raise InputError(
            f"--workdir: {workdir} was started from {report['from']}, and {origin} holds other "
            "weights; name another folder, or remove this one to train it anew"
        )


def describe(report: Mapping[str, Any]) -> str:
    """The report as text, a line for each outcome."""
    lines = [f"initial weights from {report['from']}:"]
    lines += [f"  {what:8} {', '.join(report[what])}" for what in ("loaded", "fresh", "skipped")]
    return "\n".join(lines)
