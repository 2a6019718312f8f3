"""Writes the features of images: `python -m ssljax.features --help`."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from ssljax.settings.command_line import Command, no_arguments
from ssljax.settings.command_process import clean_up_at_signals
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say, show

if TYPE_CHECKING:
    from ssljax.data.image_source import ImageSource
    from ssljax.runs.run import Run


class Features(NamedTuple):
    """Features of N images.

    Attributes:
      features: float32[N, D]; a layer with more axes is flattened.
      labels: int32[N]; -1 where there is none.
      files: the names of the files; empty where a data set does not have them.
    """

    features: np.ndarray
    labels: np.ndarray
    files: Sequence[str]


def features(
    workdir: str | pathlib.Path,
    split: str = "",
    images: str | pathlib.Path | Sequence[str | pathlib.Path] = (),
    layer: str = "",
    checkpoint: str = "",
    dataset: str = "",
    data_dir: str = "",
    skip_bad_images: bool = False,
) -> Features:
    """The features of a split, or of image files, in memory.

    They are those of `ssljax.load_run(workdir).features` for the same images, to the bit.

    Args:
      workdir: the run folder.
      split: of the run's data set, or of `dataset`.
      images: files, or folders that stand for all image files below them.
      layer: of the backbone; empty is the last one.
      checkpoint: see `ssljax.load_run`.
      dataset: TFDS's name of another data set; empty is the run's own.
      data_dir: where the data set is now, if it is not where the config says.
      skip_bad_images: leave out image files that cannot be read, and name them.

    Raises:
      InputError: the run, the checkpoint, the data set or the layer is not there; not exactly one
        of split and images is given; or an image cannot be read.
    """
    choices = _Choices(split, images, layer, checkpoint, dataset, data_dir, skip_bad_images)
    parts = list(_batches(workdir, choices))
    return Features(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        [name for part in parts for name in part.files],
    )


def write_features(
    workdir: str | pathlib.Path, out: str | pathlib.Path, **choices: Any
) -> tuple[int, int]:
    """Writes what `features` returns to a file, in memory that does not grow with it.

    Args:
      workdir: the run folder.
      out: a new file: `.npz` with the arrays `features`, `labels` and `files`; `.npy` with the
        features, and `.labels.npy` and `.files.npy` beside it; or `.parquet`.
      **choices: the other arguments of `features`.

    Returns:
      N and D.

    Raises:
      InputError: see `features`; or the file exists or cannot be written. Nothing is left then.
    """
    from ssljax.runs import feature_files

    path = feature_files.check(out)
    count = width = 0
    with feature_files.new_file(path) as file:
        for part in _batches(workdir, _Choices(**choices), progress=True):
            file.add(*part)
            count, width = count + len(part.labels), part.features.shape[1]
    return count, width


@dataclasses.dataclass(frozen=True)
class _Choices:
    """The arguments of `features`."""

    split: str = ""
    images: str | pathlib.Path | Sequence[str | pathlib.Path] = ()
    layer: str = ""
    checkpoint: str = ""
    dataset: str = ""
    data_dir: str = ""
    skip_bad_images: bool = False


def _batches(
    workdir: str | pathlib.Path, choices: _Choices, progress: bool = False
) -> Iterator[Features]:
    """Yields the features of a batch at a time."""
    from tqdm import tqdm

    from ssljax.data.given_images import UNREADABLE
    from ssljax.runs.trained_model import load_run

    if bool(choices.split) == bool(choices.images):
        raise InputError("give either --split, of a data set, or --images, a folder or file")
    if choices.images and (choices.dataset or choices.data_dir):
        raise InputError("--dataset and --data_dir belong to --split, not to --images")
    model = load_run(workdir, choices.checkpoint)
    source, name_of = _open(model.run, choices)
    first = skipped = 0
    with tqdm(total=len(source), unit=" images", leave=False, disable=not progress) as bar:
        for found, labels in model.feature_batches(source, choices.layer):
            names = [name_of(number) for number in range(first, first + len(labels))]
            good = labels != UNREADABLE
            for name in itertools.compress(names, ~good):
                say(f"left out: {name} cannot be read as an image")
            yield Features(
                found.reshape(len(labels), -1)[good],
                labels[good],
                list(itertools.compress(names, good)),
            )
            first += len(labels)
            skipped += int((~good).sum())
            bar.update(len(labels))
    if skipped == first:
        raise InputError(f"none of the {skipped} images can be read")


def _open(run: Run, choices: _Choices) -> tuple[ImageSource, Callable[[int], str]]:
    """The images, and what says the name of the file of each."""
    from ssljax.data.given_images import GivenImages, find
    from ssljax.data.image_source import ImageSource
    from ssljax.data.records import open_records

    size, data = run.method.image_size, run.config.data
    if choices.images:
        given = choices.images
        files = find(map(str, [given] if isinstance(given, str | pathlib.Path) else given))
        return GivenImages(files, size, data.decoding, choices.skip_bad_images), files.__getitem__
    records = open_records(
        choices.dataset or data.dataset,
        choices.split,
        choices.data_dir or data.data_dir,
        data.image_key,
        data.label_key,
        write=bool(choices.data_dir),
    )
    return ImageSource(records, size, data.decoding), records.file_name


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Writes the features and says what they are."""
    no_arguments(positional)
    from ssljax.devices import cpu
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.folder import read_config

    clean_up_at_signals()  # an unfinished file is removed
    keep_programs()
    cpu.split(read_config(arguments.workdir).cpu_devices)
    chosen = {field.name: arguments[field.name].value for field in dataclasses.fields(_Choices)}
    count, width = write_features(arguments.workdir, arguments.out, **chosen)
    show(f"{arguments.out}: features float32[{count}, {width}], labels and files")


def cli() -> None:
    """The console script `ssljax-features`."""
    command = Command(
        "ssljax-features",
        "Writes the features of a split, or of all images below a folder: float32[N, D], with\n"
        "labels int32[N] (-1: none) and the names of the files, in order.",
        "python -m ssljax.features --workdir=RUN (--split=SPLIT | --images=FOLDER) --out=F.npz",
    )
    command.text("workdir", "a run folder", required=True)
    command.text(
        "out", "a new file ending in .npz, .npy (labels and files beside it) or .parquet",
        required=True,
    )  # fmt: skip
    command.text("split", "a split of the run's data set, or of --dataset")
    command.text("images", "an image file, or a folder of images")
    command.text("layer", "of the backbone, such as conv5 or fc7 (default: the last one)")
    command.text("checkpoint", "best, latest or a step (default: what the method hands over)")
    command.text("dataset", "TFDS's name of another data set (default: the run's)")
    command.text("data_dir", "where the data set is prepared (default: where the run found it)")
    command.switch("skip_bad_images", "leave out files of --images that cannot be read")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
