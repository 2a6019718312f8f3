"""Prepares a data set as ArrayRecord: `python -m ssljax.data.prepare --help`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from ssljax import storage
from ssljax.command_line import Command
from ssljax.errors import InputError, nearest

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

    from ssljax.data.deep_fashion_lists import Photograph

NAMED = 10  # how many bad images are named


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Prepares what the flags say and prints what is there."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    from ssljax.data import fashion_mnist_10k
    from ssljax.data.deep_fashion import CONFIGS, NAME

    dataset = arguments.dataset
    known = [f"{NAME}/{config}" for config in CONFIGS] + [fashion_mnist_10k.NAME]
    if dataset not in known:
        raise InputError(f"--dataset: unknown data set {dataset!r}; {nearest(dataset, known)}")
    if storage.is_remote(arguments.data_dir):
        raise InputError(
            f"--data_dir: {arguments.data_dir}: data sets are written to disks; prepare it on one "
            "and copy it, with `gcloud storage cp -r` say"
        )
    if dataset == fashion_mnist_10k.NAME:
        from ssljax.data.records import open_builder

        builder = open_builder(dataset, arguments.data_dir)
    else:
        builder = prepare_deep_fashion(
            dataset.partition("/")[2],
            arguments.source,
            arguments.data_dir,
            arguments.skip_bad_images,
        )
    print(summary(builder))


def prepare_deep_fashion(
    config: str, source: str, data_dir: str = "", skip_bad: bool = False
) -> DatasetBuilder:
    """Checks DeepFashion's folder and writes one configuration of it, unless it is there already.

    Args:
      config: `slides` or `official`.
      source: the folder with the annotation lists and the photographs.
      data_dir: where to write; empty is TFDS's default.
      skip_bad: go on without photographs that are missing or cannot be decoded.

    Returns:
      The TFDS builder of the prepared data set.

    Raises:
      InputError: whatever is wrong with the folder, before anything is written.
    """
    from ssljax.data import writing
    from ssljax.data.deep_fashion import NAME, DeepFashion, split_photographs
    from ssljax.data.deep_fashion_lists import read_listing
    from ssljax.data.records import is_prepared, open_builder

    name = f"{NAME}/{config}"
    if is_prepared(name, data_dir):
        builder = open_builder(name, data_dir)
        skipped = (builder.info.metadata or {}).get("skipped_images", [])
        print(
            f"{name} is already prepared" + f", without {len(skipped)} bad images" * bool(skipped)
        )
        return builder
    if not source:
        raise InputError("--source is missing: the folder that holds Anno/, Eval/ and Img/")
    listing = read_listing(source)
    bad = _check(listing.photographs)
    if bad and not skip_bad:
        raise InputError(
            f"{_describe(bad)}\nmend them, or go on without them with --skip_bad_images"
        )
    if bad:
        print(f"skipped: {_describe(bad)}")
    skipped = {photograph.name for photograph, _ in bad}
    for split, rows in split_photographs(listing.photographs, config).items():
        if all(row.name in skipped for row in rows):
            raise InputError(f"no image of the split {split} can be used; is {source} whole?")
    builder = DeepFashion(
        listing,
        skipped=skipped,
        progress=lambda rows, split: tqdm(rows, f"writing {split}", unit=" images", leave=False),
        config=config,
        data_dir=data_dir or None,
        file_format="array_record",
    )
    writing.prepare(builder)
    return open_builder(name, data_dir)


def _check(photographs: Sequence[Photograph]) -> list[tuple[Photograph, str]]:
    from ssljax.data.deep_fashion import find_bad_images

    checked = find_bad_images(photographs, threads=os.cpu_count() or 1)
    bar = tqdm(checked, "checking", total=len(photographs), unit=" images", leave=False)
    return [(photograph, fault) for photograph, fault in bar if fault]


def _describe(bad: list[tuple[Photograph, str]]) -> str:
    lines = [f"{len(bad)} images cannot be used:" if len(bad) > 1 else "1 image cannot be used:"]
    lines += [f"  {photograph.path} {fault}" for photograph, fault in bad[:NAMED]]
    if len(bad) > NAMED:
        lines.append(f"  … and {len(bad) - NAMED} more")
    return "\n".join(lines)


def summary(builder: DatasetBuilder) -> str:
    """Images, classes and size of every split, as a table."""
    names = builder.info.features["label"].names
    classes = (builder.info.metadata or {}).get("classes_with_images", {})
    lines = [str(builder.data_path), f"{'split':20} {'images':>9} {'classes':>8} {'size':>12}"]
    for split, info in builder.info.splits.items():
        lines.append(
            f"{split:20} {info.num_examples:>9,} {classes.get(split, len(names)):>8} "
            f"{info.num_bytes / 2**20:>8.1f} MiB"
        )
    lines.append(f"{len(names)} classes: {', '.join(names)}")
    return "\n".join(lines)


def cli() -> None:
    """The console script `ssljax-prepare`."""
    command = Command(
        "ssljax-prepare",
        __doc__.partition(":")[0] + ".",
        "python -m ssljax.data.prepare --dataset=deep_fashion/slides --source=FOLDER "
        "--data_dir=DIR",
    )
    command.text(
        "dataset", "deep_fashion/slides, deep_fashion/official or fashion_mnist_10k", required=True
    )
    command.text("source", "DeepFashion's folder, which holds Anno/, Eval/ and Img/")
    command.text("data_dir", "where to write; else $TFDS_DATA_DIR or ~/tensorflow_datasets")
    command.switch("skip_bad_images", "go on without images that are missing or unreadable")
    command.run(main)


if __name__ == "__main__":
    cli()
