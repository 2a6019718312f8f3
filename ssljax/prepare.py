"""Prepares a data set as ArrayRecord: `python -m ssljax.prepare --help`."""

from __future__ import annotations

import os
import pathlib
import re
from typing import TYPE_CHECKING

from absl import flags

from ssljax.data.sets.deep_fashion import FORMATS
from ssljax.files import storage
from ssljax.settings.command_line import Command, clean_up_at_signals, no_arguments
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ssljax.data.prepared import PreparedSet

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def prepare(
    source: str,
    name: str = "",
    data_dir: str = "",
    format: str = "",
    skip_bad_images: bool = False,
) -> PreparedSet:
    """Prepares a data set, unless it is prepared already.

    Args:
      source: a folder, or `fashion_mnist_10k`, the data set that comes with ssljax.
      name: of the prepared data set; empty is the format's own.
      data_dir: where to write; empty is `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      format: one of `FORMATS`; empty recognises it.
      skip_bad_images: leave out images that are missing or cannot be decoded.

    Returns:
      The prepared data set.

    Raises:
      InputError: the source is not recognised, or whatever is wrong with it.
    """
    from ssljax.data.prepared import open_prepared
    from ssljax.data.sets import fashion_mnist_10k
    from ssljax.data.sets.deep_fashion import builder, lists, preparation

    if storage.is_remote(data_dir):
        raise InputError(
            f"--data_dir: {data_dir}: data sets are written to disks; prepare it on one and copy "
            "it, for example with `gcloud storage cp -r`"
        )
    if format and format not in FORMATS:
        raise InputError(f"--format: unknown format {format!r}; {nearest(format, FORMATS)}")
    if name and not _NAME.fullmatch(name):
        raise InputError(f"--name must be lower-case letters, digits and _, got {name!r}")
    if source == fashion_mnist_10k.NAME:
        return open_prepared(source, data_dir)
    folder = pathlib.Path(os.path.expanduser(source))
    data_dir = os.path.expanduser(data_dir)
    if not folder.is_dir():
        raise InputError(f"--source: {source} is not a folder")
    if not format and not lists.recognises(folder):
        raise InputError(
            f"--source: {source} is not recognised: it has no Anno/ or Eval/ as DeepFashion has; "
            f"--format=FORMAT reads it as one of {', '.join(FORMATS)}"
        )
    config = (format or FORMATS[0]).partition("/")[2]
    return preparation.prepare(config, folder, data_dir, name or builder.NAME, skip_bad_images)


def summary(prepared: PreparedSet) -> str:
    """Images, classes and size of every split, as a table."""
    names = prepared.class_names["label"]
    classes = prepared.metadata.get("classes_with_images", {})
    lines = [str(prepared.folder), f"{'split':20} {'images':>9} {'classes':>8} {'size':>12}"]
    for split, info in prepared.splits.items():
        lines.append(
            f"{split:20} {info.num_examples:>9,} {classes.get(split, len(names)):>8} "
            f"{info.num_bytes / 2**20:>8.1f} MiB"
        )
    lines.append(f"{len(names)} classes: {', '.join(names)}")
    return "\n".join(lines)


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Prepares what the flags say and prints what is there."""
    no_arguments(positional)
    clean_up_at_signals()  # an unfinished data set is removed
    prepared = prepare(
        arguments.source,
        arguments.name,
        arguments.data_dir,
        arguments.format,
        arguments.skip_bad_images,
    )
    show(summary(prepared))


def cli() -> None:
    """The console script `ssljax-prepare`."""
    command = Command(
        "ssljax-prepare",
        "Prepares a data set as ArrayRecord, which training reads. DeepFashion's folder is\n"
        "recognised. Every image is checked before anything is written.",
        "python -m ssljax.prepare --source=FOLDER [--name=NAME] [--data_dir=DIR]\n"
        f"       [--format={'|'.join(FORMATS)}]",
    )
    command.text("source", "a folder, or fashion_mnist_10k, which comes with ssljax", required=True)
    command.text(
        "name", "of the prepared data set, for config.data.dataset (default: deep_fashion)"
    )
    command.text("data_dir", "where to write (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    command.text(
        "format", f"read the source as {' or '.join(FORMATS)} (default: recognised, the first one)"
    )
    command.switch("skip_bad_images", "leave out images that are missing or unreadable")
    command.run(main)


if __name__ == "__main__":
    cli()
