"""Names what is in images: `python -m ssljax.predict --help`."""

from __future__ import annotations

from absl import flags

from ssljax.settings.command_line import Command
from ssljax.settings.errors import InputError


def main(arguments: flags.FlagValues, images: list[str]) -> None:
    """Prints the most likely classes of each image."""
    if not images:
        raise InputError("no IMAGE given; see --help")
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.trained_model import load_run

    keep_programs()
    model = load_run(arguments.workdir, arguments.checkpoint)
    for image, classes in zip(images, model.classify(images), strict=True):
        named = "  ".join(f"{name} {probability:.1%}" for name, probability in classes)
        print(f"{image}: {named}")


def cli() -> None:
    """The console script `ssljax-predict`."""
    command = Command(
        "ssljax-predict",
        "Prints the five most likely classes of images, with a run of classification.",
        "python -m ssljax.predict --workdir=RUN IMAGE...",
    )
    command.text("workdir", "a run folder of classification", required=True)
    command.text("checkpoint", "best, latest or a step", default="best")
    command.plugin()
    command.run(main)


if __name__ == "__main__":
    cli()
