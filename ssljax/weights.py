"""Weights from and to PyTorch: `python -m ssljax.weights --help`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict

from ssljax import storage
from ssljax.command_line import Command
from ssljax.config import train_config
from ssljax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def import_weights(
    file: str | pathlib.Path,
    workdir: str | pathlib.Path,
    class_names: tuple[str, ...] = (),
    dataset: str = "imagenet2012",
) -> None:
    """Turns a file of torchvision's AlexNet weights into a run folder of the classification task.

    The folder can be evaluated, predicted with, started from and exported like any other; using it
    needs no PyTorch any more.

    Args:
      file: `.pth` or `.safetensors`.
      workdir: the folder; it must not hold a run yet.
      class_names: one for each output; empty numbers them.
      dataset: what TFDS calls the data set that the classes are of.

    Raises:
      InputError: the file is not that of an AlexNet (with the list of what is missing, extra or of
        another shape), or the folder is taken.
    """
    import jax
    import jax.numpy as jnp

    from ssljax.models import torch_weights
    from ssljax.training.checkpoints import Checkpoints
    from ssljax.training.run import make_run
    from ssljax.training.run_folder import open_run_folder
    from ssljax.training.steps import TrainState

    folder = storage.path(workdir, "RUN")
    if folder.exists() and not (
        folder.is_dir() and {p.name for p in folder.iterdir()} <= {".lock"}
    ):
        raise InputError(f"{folder} exists already; name a new folder")
    params = torch_weights.load_alexnet(file)
    outputs = params["fc8"]["bias"].shape[0]
    names = class_names or tuple(str(index) for index in range(outputs))
    if len(names) != outputs:
        raise InputError(f"--class_names has {len(names)} names, {file} has {outputs} outputs")
    config = _config(dataset, width=params["conv1"]["bias"].shape[0] / 64)
    run = make_run(config, names)
    _check_shapes(file, params, run.parameter_shapes())
    open_run_folder(folder, run.config)
    checkpoints = Checkpoints(folder)
    state = TrainState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, params), None)
    metadata = {"task": "classification", "step": 0, "epoch": 0, "class_names": list(names)}
    checkpoints.save_best(state, metadata)
    checkpoints.wait()
    checkpoints.close()


def export_weights(workdir: str | pathlib.Path, file: str | pathlib.Path, checkpoint: str) -> None:
    """Writes a run's parameters as a state dict of torchvision's `alexnet`.

    It loads strictly where the run's `model.width` is 1; torchvision has no other.

    Args:
      file: `.pth` or `.safetensors`; must not exist yet.
      checkpoint: see `ssljax.load_run`.

    Raises:
      InputError: the run or the checkpoint is not there, or the file cannot be written.
    """
    from ssljax.models import torch_weights
    from ssljax.trained_model import load_run

    path = pathlib.Path(file)
    if path.exists():
        raise InputError(f"{path} exists already; name a new file")
    torch_weights.check_suffix(path)
    model = load_run(workdir, checkpoint)
    scratch = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        torch_weights.write(scratch, torch_weights.to_state_dict(model.params))
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def _config(dataset: str, width: float) -> ConfigDict:
    config = train_config()
    config.task = ConfigDict({"name": "classification"})
    config.model.width = width
    config.data.dataset = dataset
    config.data.test_split = "validation"  # of ImageNet; the labels of its test set are not public
    config.data.image_size = 224
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    return config


def _check_shapes(
    file: str | pathlib.Path, params: Mapping[str, Mapping[str, np.ndarray]], expected: Any
) -> None:
    from ssljax.models.torch_weights import MODULES

    faults = [
        f"{MODULES[layer]} has {name} {leaf.shape}, expected {expected[layer][name].shape}"
        for layer, leaves in params.items()
        for name, leaf in leaves.items()
        if leaf.shape != expected[layer][name].shape
    ]
    if faults:
        raise InputError(f"{file} is not torchvision's AlexNet: {'; '.join(faults)}")


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Imports or exports."""
    if len(positional) != 3 or positional[0] not in ("import", "export"):
        raise InputError("expected `import FILE RUN` or `export RUN FILE`; see --help")
    from ssljax.training.run_folder import read_config

    action, source, target = positional
    if action == "import":
        names: tuple[str, ...] = ()
        if arguments.class_names:
            try:
                lines = pathlib.Path(arguments.class_names).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"--class_names: {arguments.class_names}: {error}") from error
            names = tuple(lines.splitlines())
        import_weights(source, target, names, arguments.dataset)
    else:
        export_weights(source, target, arguments.checkpoint)
        data, width = read_config(source).data, read_config(source).model.width
        print(f"pictures are normalised with mean {tuple(data.mean)} and std {tuple(data.std)}")
        if width != 1:
            print(f"torchvision's AlexNet has another width than this one's {width:g}")
    print(f"{source} → {target}")


def cli() -> None:
    """The console script `ssljax-weights`."""
    command = Command(
        "ssljax-weights",
        "Turns a file of torchvision's AlexNet weights into a run folder, and a run folder into\n"
        "such a file, which torchvision's alexnet().load_state_dict takes where model.width is 1.\n"
        "FILE ends in .pth or .safetensors; both need `pip install ssljax[torch]`.",
        "python -m ssljax.weights import FILE RUN | export RUN FILE",
    )
    command.text("class_names", "import: a file with a class name per line, in their order")
    command.text("dataset", "import: TFDS's name of the data set", default="imagenet2012")
    command.text("checkpoint", "export: best, latest or a step (default: what the task hands over)")
    command.run(main)


if __name__ == "__main__":
    cli()
