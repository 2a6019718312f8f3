"""`python -m ssljax` lists the commands; `--version` prints the version."""

from __future__ import annotations

import sys

from ssljax import __version__
from ssljax.settings.command_process import run_command
from ssljax.settings.messages import say, show

COMMANDS = {
    "prepare": "prepares a data set",
    "preview": "shows what the network will see, without training",
    "train": "trains a run, or continues it",
    "evaluate": "evaluates a checkpoint on a split",
    "probe": "measures what the features of a run are worth",
    "study": "runs pretext tasks and the arms that start from them, and writes a report",
    "predict": "names what is in images",
    "features": "writes the features of images",
    "weights": "converts weights from and to PyTorch",
    "compile": "tells what a training step needs, also for TPUs, without one",
}


def main() -> None:
    """Prints the list of commands or the version."""
    run_command("ssljax", _answer)


def _answer() -> None:
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        show(f"ssljax {__version__}")
        return
    lines = ["usage: python -m ssljax.COMMAND --help", ""]
    lines += [f"  {name:10} {text}" for name, text in COMMANDS.items()]
    if arguments in ([], ["--help"], ["-h"]):
        show(*lines)
        return
    say(f"ssljax: unexpected argument {arguments[0]!r}", *lines)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
