"""Prepares a data set as ArrayRecord: `python -m ssljax.prepare --help`."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import TYPE_CHECKING, Any

from absl import flags

from ssljax.data.sets.formats import FORMATS, recognise
from ssljax.data.sets.next_command import next_command, parts_of_train
from ssljax.files import storage, untrusted
from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.command_process import clean_up_at_signals
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.messages import show
from ssljax.settings.printable import shortened

if TYPE_CHECKING:
    from ssljax.data.prepared import PreparedSet

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def prepare(
    source: str,
    name: str = "",
    data_dir: str = "",
    format: str = "",
    columns: str = "",
    **choices: Any,
) -> PreparedSet:
    """Prepares a data set, unless it is prepared already; prints what is found.

    Args:
      source: a folder or file, or `fashion_mnist_10k`, the data set that comes with ssljax.
      name: of the prepared data set; empty makes one of the source's name.
      data_dir: where to write; empty is `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      format: one of `ssljax.data.sets.formats.FORMATS`; empty recognises it.
      columns: of a table, such as `image:file,label:species`; empty recognises them.
      **choices: see `ssljax.data.sets.preparation.Choices`.

    Returns:
      The prepared data set.

    Raises:
      InputError: the source is not recognised, or whatever is wrong with it.
    """
    from ssljax.data.prepared import default_folder, is_prepared, open_prepared
    from ssljax.data.sets import columns as table_columns
    from ssljax.data.sets import fashion_mnist_10k, preparation, record_writer, splits

    chosen = preparation.Choices(**choices)
    splits.parse(chosen.splits)
    if chosen.drop_duplicates and chosen.keep_duplicates:
        raise InputError("--drop_duplicates and --keep_duplicates exclude each other")
    roles = table_columns.parse(columns)
    if storage.is_remote(data_dir):
        raise InputError(
            f"--data_dir: {data_dir}: data sets are written to disks; prepare it on one and copy "
            "it, for example with `gcloud storage cp -r`"
        )
    if source == fashion_mnist_10k.NAME:
        return open_prepared(source, data_dir)
    if format and format not in FORMATS:
        raise InputError(f"--format: unknown format {format!r}; {nearest(format, FORMATS)}")
    path = pathlib.Path(source).expanduser()
    if not path.exists():
        raise InputError(f"--source: there is no {source}")
    if not path.is_dir():
        try:
            untrusted.check_regular(path)
        except OSError as error:
            raise InputError(f"--source: {source} cannot be read: {error.strerror}") from error
    kind = format or recognise(path)
    if roles and not FORMATS[kind].has_columns:
        raise InputError(f"--columns: {source} is read as {kind}, which has no columns")
    if name and not _NAME.fullmatch(name):
        raise InputError(f"--name must be lower-case letters, digits and _, got {name!r}")
    name = name or FORMATS[kind].name or _name_of(path)
    dataset = f"{name}/{FORMATS[kind].config}".rstrip("/")
    request = {
        "source": str(path.resolve()), "format": kind, "columns": columns,
        **dataclasses.asdict(chosen),
    }  # fmt: skip
    if is_prepared(dataset, data_dir):
        prepared = open_prepared(dataset, data_dir)
        _check_same(dataset, prepared, request)
        return prepared
    opened = FORMATS[kind].open(path, roles)
    show(f"{source}: {opened.description}")
    target = (
        storage.path(data_dir or default_folder(), "--data_dir") / dataset / record_writer.VERSION
    )
    preparation.prepare(opened, dataset, target, {"prepared": request}, chosen)
    return open_prepared(dataset, data_dir)


def _name_of(path: pathlib.Path) -> str:
    """A name for a data set, made of its source's name."""
    name = re.sub(r"[^a-z0-9]+", "_", path.resolve().name.split(".")[0].lower()).strip("_")
    if not _NAME.fullmatch(name):
        raise InputError(f"--name is missing: no name can be made of {path}")
    return name


def _check_same(dataset: str, prepared: PreparedSet, request: dict[str, Any]) -> None:
    """Raises InputError if a prepared data set was made of something else, or in another way."""
    was = prepared.metadata.get("prepared")
    if was is None:
        raise InputError(
            f"{prepared.folder} holds a data set that was not prepared with this command; choose "
            "another --name"
        )
    for key, value in request.items():
        if key in was and was[key] != value:
            raise InputError(
                f"{dataset} is prepared already with --{key}={was[key]}, not {value}; choose "
                f"another --name, or remove {prepared.folder}"
            )
    show(f"{dataset} is prepared already; remove {prepared.folder} to prepare it again")


def summary(prepared: PreparedSet) -> list[str]:
    """Images, classes and size of every split, as the lines of a table."""
    names = prepared.class_names.get("label", ())
    classes = prepared.metadata.get("classes_with_images", {})
    lines = [str(prepared.folder), f"{'split':20} {'images':>9} {'classes':>8} {'size':>12}"]
    for split, info in prepared.splits.items():
        lines.append(
            f"{split:20} {info.num_examples:>9,} {classes.get(split, len(names)):>8} "
            f"{info.num_bytes / 2**20:>8.1f} MiB"
        )
    shown = ", ".join(map(shortened, names))
    lines.append(f"{len(names)} classes: {shown}" if names else "no labels")
    return lines


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Prepares what the flags say and prints what is there."""
    no_arguments(positional)
    clean_up_at_signals()  # an unfinished data set is removed
    names = (
        "source", "name", "data_dir", "format", "columns", "splits", "seed", "max_side",
        "drop_duplicates", "keep_duplicates", "skip_bad_images",
    )  # fmt: skip
    prepared = prepare(**{name: arguments[name].value for name in names})
    show(*summary(prepared))
    if "train" in prepared.splits:
        if parts := parts_of_train(prepared.splits):
            _, *missing = parts
            show(f"there is no split {' and no '.join(missing)}: parts of train take the place")
        show("to train on it:", *next_command(prepared, arguments.data_dir))


def cli() -> None:
    """The console script `ssljax-prepare`."""
    command = Command(
        "ssljax-prepare",
        "Prepares images as a data set (ArrayRecord), which training reads. The format of the\n"
        "source is recognised, and every image is checked before anything is written.",
        "python -m ssljax.prepare --source=PHOTOS --name=NAME [--data_dir=DIR]",
    )
    command.text(
        "source",
        "a folder of images, a .csv or .tsv file, or a file or folder of .parquet or .tar",
        required=True,
    )
    command.text(
        "name", "of the prepared data set, for config.data.dataset (default: the source's)"
    )
    command.text("data_dir", "where to write (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    command.text("format", f"{', '.join(FORMATS)} (default: recognised)")
    command.text(
        "columns", "image:COLUMN,label:COLUMN,split:COLUMN of a table (default: recognised)"
    )
    command.text(
        "splits", "made if the source has none, stratified by class", "train:90,validation:5,test:5"
    )
    command.number("seed", "of the splits that are made")
    command.number(
        "max_side", "re-encode larger images to so many pixels, since they decode slowly"
    )
    command.switch("drop_duplicates", "leave out training images with a copy in another split")
    command.switch("keep_duplicates", "leave copies in several splits of the source as they are")
    command.switch("skip_bad_images", "leave out images that are missing or unreadable")
    command.run(main)


if __name__ == "__main__":
    cli()
