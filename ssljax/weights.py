"""Weights from and to PyTorch: `python -m ssljax.weights --help`."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.settings.command_line import Command
from ssljax.settings.errors import InputError
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ssljax.models.torch.description import Description


def import_weights(
    file: str | pathlib.Path, workdir: str | pathlib.Path, given: Description | None = None
) -> Description:
    """Turns a file of torchvision's AlexNet weights into a run folder of classification.

    The folder can be evaluated, predicted with, started from and exported like any other. Using it
    does not need PyTorch.

    Args:
      file: `.pth` or `.safetensors`.
      workdir: the folder; it must not hold a run yet.
      given: how images are prepared, and the classes; it is added to what the file says, and
        comes before it.

    Returns:
      What the file says and what was given. Classes without names are numbered.

    Raises:
      InputError: the file does not hold an AlexNet (what is missing, extra or of another shape is
        listed), it is not known how images are prepared for it, or the folder exists already.
    """
    import jax
    import jax.numpy as jnp

    from ssljax.models.torch import alexnet_layout
    from ssljax.models.torch import description as descriptions
    from ssljax.runs.checkpoints import BEST, Checkpoints
    from ssljax.runs.config import resolve
    from ssljax.runs.folder import open_run_folder
    from ssljax.runs.run import make_run
    from ssljax.runs.transfer import load_alexnet

    description = descriptions.read(pathlib.Path(os.path.expanduser(file))).updated(
        given or descriptions.UNKNOWN
    )
    if missing := description.missing():
        flags_ = ", ".join(f"--{name}" for name in missing)
        raise InputError(
            f"{file} does not say how images are prepared for it; give {flags_}, or --imagenet "
            "for torchvision's weights of ImageNet"
        )
    folder = storage.path(workdir, "RUN")
    if folder.exists() and not (
        folder.is_dir() and {path.name for path in folder.iterdir()} <= {".lock"}
    ):
        raise InputError(f"{folder} exists already; name a new folder")
    params = load_alexnet(file)
    outputs = params["head"]["bias"].shape[0]
    names = description.class_names or tuple(str(index) for index in range(outputs))
    if len(names) != outputs:
        raise InputError(
            f"--class_names: there are {len(names)} names, but {file} has {outputs} outputs"
        )
    width = params["backbone"]["conv1"]["bias"].shape[0] / 64
    run = make_run(resolve(_config(description, width)), names)
    alexnet_layout.check_shapes(params, run.variable_shapes()[0], str(file))
    open_run_folder(folder, run.config)
    checkpoints = Checkpoints(folder)
    parts = {"params": jax.tree.map(jnp.asarray, params)}
    metadata = {"method": "classification", "step": 0, "epoch": 0, "class_names": list(names)}
    checkpoints.save(BEST, 0, parts, metadata)
    checkpoints.wait()
    checkpoints.close()
    return description


def export_weights(
    workdir: str | pathlib.Path, file: str | pathlib.Path, checkpoint: str
) -> Description:
    """Writes a run's parameters as a state dict of torchvision's `alexnet`.

    torchvision loads it with strict=True if the run's `model.width` is 1; it has no other width.
    A `.safetensors` file also says how images are prepared, and names the classes.

    Args:
      workdir: the run folder.
      file: `.pth` or `.safetensors`; must not exist yet.
      checkpoint: see `ssljax.load_run`.

    Returns:
      How images are prepared, and the classes.

    Raises:
      InputError: the run or the checkpoint is not there, or the file cannot be written.
    """
    from ssljax.models.torch import alexnet_layout, state_dict_files
    from ssljax.models.torch.description import of_run
    from ssljax.runs.trained_model import load_run

    path = pathlib.Path(os.path.expanduser(file))
    if path.exists():
        raise InputError(f"{path} exists already; name a new file")
    state_dict_files.check_suffix(path)
    model = load_run(workdir, checkpoint)
    if (name := model.run.config.model.name) != "alexnet":
        raise InputError(f"{workdir}: weights of alexnet can be exported, not of {name}")
    run = model.run
    names = run.class_names if run.method.names_classes else ()
    description = of_run(run.config, run.method.image_size, names)
    try:
        tensors = alexnet_layout.to_state_dict(model.params)
        state_dict_files.write(path, tensors, description.metadata())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return description


def _config(description: Description, width: float) -> ConfigDict:
    from ssljax.runs.config import train_config

    config = train_config("classification", "alexnet")
    config.model.width = width
    config.data.dataset = "unknown"
    for name, value in description.known().items():
        if name != "class_names":
            config.data[name] = value
    return config


def _given(arguments: flags.FlagValues) -> Description:
    """What the flags of `import` say."""
    from ssljax.models.torch.description import IMAGENET, UNKNOWN, Description

    known: dict[str, Any] = {}
    for name in ("mean", "std"):
        if text := arguments[name].value:
            try:
                known[name] = tuple(float(part) for part in text.split(","))
            except ValueError as error:
                raise InputError(
                    f"--{name}: expected numbers as in 0.5,0.5,0.5, got {text}"
                ) from error
    if path := arguments.class_names:
        try:
            known["class_names"] = tuple(
                pathlib.Path(os.path.expanduser(path)).read_text("utf-8").splitlines()
            )
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--class_names: {path}: {error}") from error
    known |= {"image_size": arguments.image_size} if arguments.image_size else {}
    known |= {"dataset": arguments.dataset} if arguments.dataset else {}
    return (IMAGENET if arguments.imagenet else UNKNOWN).updated(Description(**known))


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Imports or exports."""
    if len(positional) != 3 or positional[0] not in ("import", "export"):
        raise InputError("expected `import FILE RUN` or `export RUN FILE`; see --help")
    from ssljax.models.torch.state_dict_files import TORCH_SUFFIXES
    from ssljax.runs.folder import read_config

    action, source, target = positional
    if action == "import":
        description = import_weights(source, target, _given(arguments))
        if not description.class_names:
            show(f"{source} has no class names, so classes are numbered; see --class_names")
    else:
        description = export_weights(source, target, arguments.checkpoint)
        if pathlib.Path(target).suffix in TORCH_SUFFIXES:
            show(
                f"{target} cannot say how images are prepared; import it with {description.flags()}"
            )
        if (width := read_config(source).model.width) != 1:
            show(f"torchvision's AlexNet does not have this one's width of {width:g}")
    show(f"{source} → {target}")


def cli() -> None:
    """The console script `ssljax-weights`."""
    command = Command(
        "ssljax-weights",
        "Turns a file of torchvision's AlexNet weights into a run folder, and a run folder into\n"
        "such a file, which torchvision's alexnet().load_state_dict accepts if model.width is 1.\n"
        "FILE ends in .safetensors (needs `pip install -e '.[safetensors]'`) or .pth (PyTorch).\n"
        "Only .safetensors says how images are prepared, and what the classes are; for other\n"
        "files, flags say it.",
        "python -m ssljax.weights import FILE RUN | export RUN FILE",
    )
    command.text("class_names", "import: a file with a class name per line, in their order")
    command.text("mean", "import: of the channels in [0, 1], which is subtracted: 0.5,0.5,0.5")
    command.text("std", "import: divides the channels after that: 0.5,0.5,0.5")
    command.number("image_size", "import: side of the square images, in pixels")
    command.text("dataset", "import: TFDS's name of the data set that the classes belong to")
    command.switch(
        "imagenet", "import: mean, std, size and data set of torchvision's weights of ImageNet"
    )
    command.text(
        "checkpoint", "export: best, latest or a step (default: what the method hands over)"
    )
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
