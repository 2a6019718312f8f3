"""Trains a model on a task: `python -m ssljax.train --help`."""

from __future__ import annotations

from absl import flags

from ssljax.command_line import Command
from ssljax.errors import InputError


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Trains, or goes on where the folder's run stopped."""
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    from ssljax.config import check_train_config
    from ssljax.training import distributed
    from ssljax.training.loop import train
    from ssljax.training.parallelism import split_cpu

    config = arguments.config
    check_train_config(config)
    distributed.join()
    split_cpu(config.batch_size // config.gradient_accumulation_steps)
    train(config, arguments.workdir)


def cli() -> None:
    """The console script `ssljax-train`."""
    command = Command(
        "ssljax-train",
        "Trains a model on a task. The same command on the same folder goes on where it stopped;\n"
        "Ctrl-C and SIGTERM save a checkpoint first.",
        "python -m ssljax.train --config=configs/jigsaw.py:3x3 --workdir=RUN [--config.a.b=value]",
    )
    command.config()
    command.text("workdir", "the run folder", required=True)
    command.run(main)


if __name__ == "__main__":
    cli()
