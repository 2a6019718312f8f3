"""Shows what the network will see: `python -m ssljax.preview --help`."""

from __future__ import annotations

import pathlib

from absl import flags
from ml_collections import ConfigDict

from ssljax.runs.config_flags import ConfigCommand
from ssljax.settings.command_line import no_arguments
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say, show


def preview(config: ConfigDict, images: int = 8, epochs: int = 2) -> bytes:
    """Draws what the network sees of the first training images in the first epochs.

    Nothing is trained. The random draws are those of training.

    Args:
      config: of a training run.
      images: how many of them.
      epochs: how many of them.

    Returns:
      A PNG file: a row for each image.

    Raises:
      InputError: something is wrong with the config or the data.
    """
    from ssljax.report import contact_sheet, network_inputs
    from ssljax.runs.config import resolve
    from ssljax.runs.run import open_run
    from ssljax.training.training_records import training_records

    run = open_run(resolve(config))
    records = training_records(run)
    for remark in run.method.remarks(records.channels):
        say(remark)
    seen = network_inputs.seen(run, records, epochs, min(images, len(records)))
    title = f"{run.config.method.name} on {records.name}"
    return contact_sheet.draw(title, seen)


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Writes the contact sheet."""
    no_arguments(positional)
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.files import storage

    out = pathlib.Path(arguments.out).expanduser()
    if out.suffix.lower() != ".png":
        raise InputError(f"--out: the sheet is a PNG; name a file that ends in .png, not {out}")
    if not out.parent.is_dir():
        raise InputError(f"--out: there is no folder {out.parent}")
    keep_programs()
    storage.write(out, preview(arguments.config, arguments.images, arguments.epochs))
    show(str(out))


def cli() -> None:
    """The console script `ssljax-preview`."""
    command = ConfigCommand(
        "ssljax-preview",
        "Writes an image of what the network will see, without training: the first training\n"
        "images, each with the network's inputs in the first epochs. The crops, puzzles and views\n"
        "are exactly those that training will use.",
        "python -m ssljax.preview --config=configs/jigsaw.py:3x3 --out=FILE.png [--images=8]\n"
        "       [--epochs=2] [--config.method.gap=10]",
    )
    command.config()
    command.text("out", "the PNG file to write", required=True)
    command.number("images", "how many training images", default=8, at_least=1)
    command.number("epochs", "how many epochs", default=2, at_least=1)
    command.run(main)


if __name__ == "__main__":
    cli()
