"""Names what is in pictures: `python -m ssljax.predict --help`."""

from __future__ import annotations

from absl import flags

from ssljax.command_line import Command
from ssljax.errors import InputError


def main(arguments: flags.FlagValues, pictures: list[str]) -> None:
    """Prints the top classes of each picture."""
    if not pictures:
        raise InputError("no IMAGE given; see --help")
    from ssljax.trained_model import load_run

    model = load_run(arguments.workdir, arguments.checkpoint)
    for picture, classes in zip(pictures, model.classify(pictures), strict=True):
        named = "  ".join(f"{name} {probability:.1%}" for name, probability in classes)
        print(f"{picture}: {named}")


def cli() -> None:
    """The console script `ssljax-predict`."""
    command = Command(
        "ssljax-predict",
        "Prints the five likeliest classes of pictures, with a classification run.",
        "python -m ssljax.predict --workdir=RUN IMAGE...",
    )
    command.text("workdir", "a run folder of the classification task", required=True)
    command.text("checkpoint", "best, latest or a step", default="best")
    command.run(main)


if __name__ == "__main__":
    cli()
