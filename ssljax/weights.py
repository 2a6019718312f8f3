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
from ssljax.settings.messages import say, show

if TYPE_CHECKING:
    from ssljax.models.torch.description import Description
    from ssljax.models.torch.layout import Weights
    from ssljax.models.torch.layouts import TorchWeights


_LONGEST_NAMES = 2**24  # bytes of a file with class names


def import_weights(
    source: str | pathlib.Path,
    workdir: str | pathlib.Path,
    given: Description | None = None,
    init_part: str = "student",
) -> Description:
    """Turns weights into a run folder, which can be evaluated, started from and exported again.

    A file of torchvision's AlexNet or ResNet, or of timm's vision transformer, becomes a run of
    classification; without a last layer, one that only computes features. So do checkpoints of
    MoCo, DINO, MAE and DINOv2, see `ssljax.models.torch.published`. A folder that `export_weights`
    has made becomes a run of the same method. Using it does not need PyTorch.

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
    import jax
    import jax.numpy as jnp

    from ssljax.methods import method_class
    from ssljax.models.torch import description as descriptions
    from ssljax.models.torch import layouts
    from ssljax.runs import exported_folder
    from ssljax.runs.checkpoints import BEST, Checkpoints
    from ssljax.runs.config import resolve
    from ssljax.runs.folder import open_run_folder
    from ssljax.runs.run import make_run

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
    open_run_folder(folder, run.config)
    checkpoints = Checkpoints(folder)
    parts = jax.tree.map(jnp.asarray, {"params": params, "stats": stats})
    metadata = {
        "method": run.config.method.name,
        "epoch": epoch,
        "class_names": list(names),
    }
    checkpoints.save(BEST, step, parts, metadata)
    checkpoints.wait()
    checkpoints.close()
    return description


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


def _config(description: Description, found: TorchWeights) -> ConfigDict:
    from ssljax.methods import FEATURES
    from ssljax.models.torch import vit
    from ssljax.models.torch.layout import HEAD
    from ssljax.runs.config import train_config

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
    from ssljax.methods import FEATURES
    from ssljax.models.torch.layout import Weights

    if config.method.name != FEATURES:
        return weights
    if others := [name for name in weights.params if name != "backbone"]:
        say(f"left out: {', '.join(others)}")
    parts = ({key: tree[key] for key in tree if key == "backbone"} for tree in weights)
    return Weights(*parts)


def _fit_positions(params: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Interpolates learned positions of another image size, in place."""
    from ssljax.models import positions

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

    action, source, target = positional
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
