"""Trains a run: `python -m ssljax.train --help`."""

from __future__ import annotations

from absl import flags
from ml_collections import ConfigDict

from ssljax.runs.config_flags import ConfigCommand
from ssljax.settings.command_line import no_arguments
from ssljax.settings.option_help import Fields


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Trains, or continues the run of the folder."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.config import check_train_config, complete, cpu_devices
    from ssljax.runs.folder import recorded_config
    from ssljax.training.loop import train

    config = complete(arguments.config)
    check_train_config(config)
    distributed.join()
    keep_programs()
    cpu.split(cpu_devices(config, recorded_config(arguments.workdir)))
    train(config, arguments.workdir)


def _described(config: ConfigDict) -> tuple[ConfigDict, Fields]:
    from ssljax.runs.config import described

    return described(config)


def cli() -> None:
    """The console script `ssljax-train`."""
    command = ConfigCommand(
        "ssljax-train",
        "Trains a network with a method. The same command on the same folder continues where it\n"
        "stopped; Ctrl-C and SIGTERM save a checkpoint first.",
        "python -m ssljax.train --config=configs/jigsaw.py:3x3 --workdir=RUN [--config.a.b=value]",
    )
    command.config(_described)
    command.text("workdir", "the run folder", required=True)
    command.run(main)


if __name__ == "__main__":
    cli()
