"""Weights from and to PyTorch: `python -m ssljax.weights --help`."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from ssljax.settings.command_line import Command
from ssljax.settings.errors import InputError
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ssljax.models.torch.description import Description

_LONGEST_NAMES = 2**24  # bytes of a file with class names


def export_weights(
    workdir: str | pathlib.Path,
    target: str | pathlib.Path,
    checkpoint: str = "",
    licence: str = "",
) -> Description:
    """Writes a run's parameters and batch statistics as a state dict.

    The names are torchvision's; those of a vision transformer are timm's.

    torchvision loads it with strict=True if it has the network: with a `model.width` of 1, and
    without the stem for small images, or batch normalisation in AlexNet.
    A `.safetensors` file also says how images are prepared, and names the classes. A folder has
    such a file, the run's config, and a model card.

    Args:
      workdir: the run folder.
      target: a file that ends in `.pth` or `.safetensors`, or the name of a folder. It must not
        exist yet; a folder may be there if it is empty.
      checkpoint: see `ssljax.load_run`.
      licence: of the weights, for the model card, as hubs name it, such as `apache-2.0`.

    Returns:
      How images are prepared, and the classes.

    Raises:
      InputError: the run or the checkpoint is not there, or the target cannot be written.
    """
    from ssljax.models.torch import layouts, state_dict_files
    from ssljax.models.torch.description import Description, of_run
    from ssljax.report import model_card
    from ssljax.runs import exported_folder
    from ssljax.runs.saved_checkpoints import SavedCheckpoints
    from ssljax.runs.trained_model import load_run

    path = exported_folder.check_target(target)
    model = load_run(workdir, checkpoint)
    run = model.run
    layout = layouts.layout_of(run.config.model, run.method.image_size)
    names = run.class_names if run.method.names_classes else ()
    description = of_run(run.config, run.method.image_size, names)
    saved = SavedCheckpoints(workdir).metadata(model.checkpoint, model.step)
    epoch = saved.get("epoch")
    description = description.updated(
        Description(step=model.step, epoch=epoch if isinstance(epoch, int | float) else None)
    )
    tensors = layout.write(model.params, model.parts["stats"])
    if not state_dict_files.is_named_so(path):
        card = model_card.render(model, workdir, description, licence)
        exported_folder.write(path, tensors, description, run.config, card)
        return description
    try:
        state_dict_files.write(path, tensors, description.metadata())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return description


_OF_IMPORT = (
    "class_names", "mean", "std", "init_part", "image_size", "heads", "dataset", "imagenet",
)  # fmt: skip
_OF_EXPORT = ("checkpoint", "licence")


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
        known["class_names"] = _read_names(pathlib.Path(os.path.expanduser(path)))
    for name in ("image_size", "heads"):
        known |= {name: arguments[name].value} if arguments[name].value else {}
    known |= {"dataset": arguments.dataset} if arguments.dataset else {}
    return (IMAGENET if arguments.imagenet else UNKNOWN).updated(Description(**known))


def _read_names(path: pathlib.Path) -> tuple[str, ...]:
    from ssljax.models.torch import state_dict_files

    try:
        state_dict_files.check_file(path)
        if path.stat().st_size > _LONGEST_NAMES:
            raise InputError(f"{path} has more than {_LONGEST_NAMES:,} bytes")
        return tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"--class_names: {error}") from error


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Imports or exports."""
    if len(positional) != 3 or positional[0] not in ("import", "export"):
        raise InputError(
            "expected `import FILE RUN` or `export RUN FILE`, or a folder for FILE; see --help"
        )
    from ssljax.methods import method_class
    from ssljax.models.torch import state_dict_files
    from ssljax.models.torch.loading import loadings
    from ssljax.runs.folder import read_config
    from ssljax.runs.imported_weights import import_weights

    action, source, target = positional
    for name in _OF_IMPORT if action == "export" else _OF_EXPORT:
        if arguments[name].present:
            raise InputError(f"--{name}: {action} does not take it; see --help")
    if arguments.licence and state_dict_files.is_named_so(pathlib.Path(target)):
        raise InputError(f"--licence: {target} has no model card; export to a folder")
    if action == "import":
        description = import_weights(source, target, _given(arguments), arguments.init_part)
        names_classes = method_class(read_config(target).method.name).names_classes
        if names_classes and not description.class_names:
            show(f"{source} has no class names, so classes are numbered; see --class_names")
    else:
        description = export_weights(source, target, arguments.checkpoint, arguments.licence)
        if state_dict_files.is_torch(pathlib.Path(target)):
            show(
                f"{target} cannot say how images are prepared; import it with {description.flags()}"
            )
        for each in loadings(read_config(source).model, description, None):
            if not each.lines:
                show(each.text)
    show(f"{source} → {target}")


def cli() -> None:
    """The console script `ssljax-weights`."""
    command = Command(
        "ssljax-weights",
        "Hands over the weights of a run, and turns such weights into a run folder again.\n"
        "FOLDER gets model.safetensors, config.json and README.md, a model card: how it was\n"
        "trained, its results, and how to load it in other libraries.\n"
        "FILE is a state dict of torchvision's AlexNet, or its ResNet-18, 34 or 50, or of timm's\n"
        "vision transformer, or a checkpoint of MoCo, DINO, MAE or DINOv2. It ends in\n"
        ".safetensors (needs `pip install -e '.[safetensors]'`) or .pth or .pth.tar (PyTorch).\n"
        "Only .safetensors says how images are prepared, and what the classes are; for other\n"
        "files, flags say it.",
        "python -m ssljax.weights export RUN FOLDER | export RUN FILE |\n"
        "       import FOLDER RUN | import FILE RUN",
    )
    command.text("class_names", "import: a file with a class name per line, in their order")
    command.text("mean", "import: of the channels in [0, 1], which is subtracted: 0.5,0.5,0.5")
    command.text("std", "import: divides the channels after that: 0.5,0.5,0.5")
    command.text(
        "init_part",
        "import: student or teacher, of a checkpoint of MoCo or DINO that has both",
        "student",
    )
    command.number("image_size", "import: side of the square images, in pixels")
    command.number(
        "heads",
        "import: of a vision transformer's attention, if the file implies none and timm's models "
        "have others",
    )
    command.text("dataset", "import: TFDS's name of the data set that the classes belong to")
    command.switch(
        "imagenet", "import: mean, std, size and data set of torchvision's weights of ImageNet"
    )
    command.text(
        "checkpoint", "export: best, latest or a step (default: what the method hands over)"
    )
    command.text(
        "licence", "export to a folder: of the weights, for the card, such as apache-2.0 or mit"
    )
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
