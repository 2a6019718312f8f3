"""Weights from and to PyTorch: `python -m ssljax.weights --help`."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.settings.command_line import Command
from ssljax.settings.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def import_weights(
    file: str | pathlib.Path,
    workdir: str | pathlib.Path,
    class_names: tuple[str, ...] = (),
    dataset: str = "imagenet2012",
) -> None:
    """Turns a file of torchvision's AlexNet weights into a run folder of classification.

    The folder can be evaluated, predicted with, started from and exported like any other. Using it
    does not need PyTorch.

    Args:
      file: `.pth` or `.safetensors`.
      workdir: the folder; it must not hold a run yet.
      class_names: one for each output; empty numbers them.
      dataset: TFDS's name of the data set that the classes belong to.

    Raises:
      InputError: the file does not hold an AlexNet (what is missing, extra or of another shape is
        listed), or the folder exists already.
    """
    import jax
    import jax.numpy as jnp

    from ssljax.runs.checkpoints import BEST, Checkpoints
    from ssljax.runs.config import resolve
    from ssljax.runs.folder import open_run_folder
    from ssljax.runs.run import make_run
    from ssljax.runs.transfer import load_alexnet

    folder = storage.path(workdir, "RUN")
    if folder.exists() and not (
        folder.is_dir() and {path.name for path in folder.iterdir()} <= {".lock"}
    ):
        raise InputError(f"{folder} exists already; name a new folder")
    params = load_alexnet(file)
    outputs = params["head"]["bias"].shape[0]
    names = class_names or tuple(str(index) for index in range(outputs))
    if len(names) != outputs:
        raise InputError(f"--class_names has {len(names)} names, {file} has {outputs} outputs")
    width = params["backbone"]["conv1"]["bias"].shape[0] / 64
    run = make_run(resolve(_config(dataset, width)), names)
    _check_shapes(file, params, run.variable_shapes()[0])
    open_run_folder(folder, run.config)
    checkpoints = Checkpoints(folder)
    parts = {"params": jax.tree.map(jnp.asarray, params)}
    metadata = {"method": "classification", "step": 0, "epoch": 0, "class_names": list(names)}
    checkpoints.save(BEST, 0, parts, metadata)
    checkpoints.wait()
    checkpoints.close()


def export_weights(workdir: str | pathlib.Path, file: str | pathlib.Path, checkpoint: str) -> None:
    """Writes a run's parameters as a state dict of torchvision's `alexnet`.

    torchvision loads it with strict=True if the run's `model.width` is 1; it has no other width.

    Args:
      workdir: the run folder.
      file: `.pth` or `.safetensors`; must not exist yet.
      checkpoint: see `ssljax.load_run`.

    Raises:
      InputError: the run or the checkpoint is not there, or the file cannot be written.
    """
    from ssljax.models.torch import alexnet_layout, state_dict_files
    from ssljax.runs.trained_model import load_run

    path = pathlib.Path(os.path.expanduser(file))
    if path.exists():
        raise InputError(f"{path} exists already; name a new file")
    state_dict_files.check_suffix(path)
    model = load_run(workdir, checkpoint)
    if (name := model.run.config.model.name) != "alexnet":
        raise InputError(f"{workdir}: weights of alexnet can be exported, not of {name}")
    scratch = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        state_dict_files.write(scratch, alexnet_layout.to_state_dict(model.params))
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def _config(dataset: str, width: float) -> ConfigDict:
    from ssljax.runs.config import train_config

    config = train_config("classification", "alexnet")
    config.model.width = width
    config.data.dataset = dataset
    config.data.test_split = "validation"  # of ImageNet; the labels of its test set are not public
    config.data.image_size = 224
    config.data.mean, config.data.std = IMAGENET_MEAN, IMAGENET_STD
    return config


def _check_shapes(file: str | pathlib.Path, params: Any, expected: Any) -> None:
    from ssljax.models import paths
    from ssljax.models.torch.alexnet_layout import MODULES

    given, wanted = paths.shapes(params), paths.shapes(expected)
    faults = [
        f"{MODULES[path.rpartition('/')[0]]} has {path.rpartition('/')[2]} {given[path]}, "
        f"expected {wanted[path]}"
        for path in given
        if given[path] != wanted[path]
    ]
    if faults:
        raise InputError(f"{file} is not torchvision's AlexNet: {'; '.join(faults)}")


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Imports or exports."""
    if len(positional) != 3 or positional[0] not in ("import", "export"):
        raise InputError("expected `import FILE RUN` or `export RUN FILE`; see --help")
    from ssljax.runs.folder import read_config

    action, source, target = positional
    if action == "import":
        names: tuple[str, ...] = ()
        if arguments.class_names:
            try:
                file = pathlib.Path(os.path.expanduser(arguments.class_names))
                lines = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"--class_names: {arguments.class_names}: {error}") from error
            names = tuple(lines.splitlines())
        import_weights(source, target, names, arguments.dataset)
    else:
        export_weights(source, target, arguments.checkpoint)
        data, width = read_config(source).data, read_config(source).model.width
        print(f"images are normalised with mean {tuple(data.mean)} and std {tuple(data.std)}")
        if width != 1:
            print(f"torchvision's AlexNet does not have this one's width of {width:g}")
    print(f"{source} → {target}")


def cli() -> None:
    """The console script `ssljax-weights`."""
    command = Command(
        "ssljax-weights",
        "Turns a file of torchvision's AlexNet weights into a run folder, and a run folder into\n"
        "such a file, which torchvision's alexnet().load_state_dict accepts if model.width is 1.\n"
        "FILE ends in .pth or .safetensors; both need `pip install -e '.[torch]'`.",
        "python -m ssljax.weights import FILE RUN | export RUN FILE",
    )
    command.text("class_names", "import: a file with a class name per line, in their order")
    command.text("dataset", "import: TFDS's name of the data set", default="imagenet2012")
    command.text(
        "checkpoint", "export: best, latest or a step (default: what the method hands over)"
    )
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
