"""Trains a run: `python -m ssljax.train --help`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from ssljax.files import storage
from ssljax.runs.config_flags import ConfigCommand
from ssljax.settings.command_line import no_arguments
from ssljax.settings.messages import show

if TYPE_CHECKING:
    from ssljax.runs.run import Run


def train(config: ConfigDict, workdir: str | pathlib.Path) -> Run:
    """Trains a run, or continues it where an earlier call on the same folder stopped.

    It does what the command does, with the devices that this process has: it also keeps the run's
    page `report.html` up to date.

    Args:
      config: from `ssljax.load_config` or `ssljax.train_config`.
      workdir: the run folder; it is created if needed.

    Returns:
      The run as it was built; its results are in the folder.

    Raises:
      InputError: something is wrong with the config, the data or the folder.
      Diverged: the loss is not finite.
      TrainingFailed: a checkpoint cannot be written.
      Interrupted: Ctrl-C, SIGTERM or SIGHUP came; a checkpoint was saved.
    """
    from ssljax.report.live_page import LivePage
    from ssljax.training import loop

    page = LivePage()
    try:
        return loop.train(config, workdir, page.validated)
    except Exception as error:
        page.ended(workdir, error)
        raise


def main(arguments: flags.FlagValues, positional: list[str]) -> None:
    """Trains, or continues the run of the folder."""
    no_arguments(positional)
    from ssljax.devices import cpu, distributed, processes
    from ssljax.devices.compilation_cache import keep_programs
    from ssljax.runs.config import check_train_config, complete, cpu_devices
    from ssljax.runs.folder import recorded_config
    from ssljax.runs.next_steps import next_steps

    config = complete(arguments.config)
    check_train_config(config)
    distributed.join()
    keep_programs()
    cpu.split(cpu_devices(config, recorded_config(arguments.workdir)))
    run = train(config, arguments.workdir)
    if processes.is_first():
        folder = storage.path(arguments.workdir, "--workdir")
        page = folder / "report.html"
        where = f"; its page is {page}" if page.exists() else ""
        show(f"{folder} is trained{where}. Next:", *next_steps(run, folder, arguments.plugin))


def cli() -> None:
    """The console script `ssljax-train`."""
    command = ConfigCommand(
        "ssljax-train",
        "Trains a network with a method. The same command on the same folder continues where it\n"
        "stopped; Ctrl-C and SIGTERM save a checkpoint first.",
        "python -m ssljax.train --config=configs/jigsaw.py:3x3 --workdir=RUN [--config.a.b=value]",
    )
    command.config()
    command.text("workdir", "the run folder", required=True)
    command.run(main)


if __name__ == "__main__":
    cli()
