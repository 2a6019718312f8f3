"""Names what is in images: `python -m ssljax.predict --help`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from ssljax.settings.command_line import Command
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say, show
from ssljax.settings.printable import shortened

if TYPE_CHECKING:
    from ssljax.runs.trained_model import TrainedModel

    Classes = list[tuple[str, float]]


def predictions(
    model: TrainedModel, files: Iterable[str], top: int = 5
) -> Iterator[tuple[str, Classes | InputError]]:
    """Classifies files, a batch at a time.

    Yields:
      Each file with its most likely classes and their probabilities, or with the error if it cannot
      be read.

    Raises:
      InputError: see `TrainedModel.classify`, but not for files that cannot be read.
    """
    from ssljax.runs.trained_model import BATCH

    remaining = iter(files)
    several = False
    while batch := list(itertools.islice(remaining, BATCH)):
        several = several or len(batch) == BATCH
        squares, faults = [], {}
        for file in batch:
            try:
                squares.append(model.pixels(file))
            except InputError as error:
                faults[file] = error
        if squares and several:  # so that only one shape is compiled
            squares += squares[-1:] * (BATCH - len(squares))
        named = iter(model.classify(squares, top) if squares else [])
        for file in batch:
            yield file, faults[file] if file in faults else next(named)


def main(arguments: flags.FlagValues, images: list[str]) -> None:
    """Prints the most likely classes of each image."""
    if not images:
        raise InputError("no IMAGE given; see --help")
    from ssljax.data import given_images
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.trained_model import load_run

    keep_programs()
    files = given_images.find(images)
    model = load_run(arguments.workdir, arguments.checkpoint)
    bad = 0
    for file, classes in predictions(model, files, arguments.top):
        if isinstance(classes, InputError):
            bad += 1
            say(f"ssljax-predict: {classes}")
        if arguments.json:
            show(json.dumps({"image": file, **_result(classes)}))
        elif not isinstance(classes, InputError):
            named = "  ".join(
                f"{shortened(name)} {probability:.1%}" for name, probability in classes
            )
            show(f"{file}: {named}")
    if bad:
        raise InputError(f"{bad} of {len(files)} images cannot be read")


def _result(classes: Classes | InputError) -> dict[str, Any]:
    """What `--json` says about an image."""
    if isinstance(classes, InputError):
        return {"error": str(classes)}
    return {"classes": [{"class": name, "probability": value} for name, value in classes]}


def cli() -> None:
    """The console script `ssljax-predict`."""
    command = Command(
        "ssljax-predict",
        "Prints the most likely classes of images, with a run of classification. A folder stands\n"
        "for all image files in it and below it. An image that cannot be read is named, and the\n"
        "command goes on; its exit code is 2 then.",
        "python -m ssljax.predict --workdir=RUN [--top=5] [--json] IMAGE_OR_FOLDER...",
    )
    command.text("workdir", "a run folder of classification", required=True)
    command.text("checkpoint", "best, latest or a step", default="best")
    command.number("top", "how many classes to name", default=5, at_least=1)
    command.switch("json", "print a JSON object per image, in a line")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
