"""What every kind of files from others has: good ones, and commands that read them."""

from __future__ import annotations

import pathlib
import random

from tests.fuzz import command

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


class Target:
    """A kind of files.

    Attributes:
      given: a folder with good files, a copy of which is damaged.
      world: the folder in which commands may write; it has `home`, `tmp` and `cwd`.
      beside: a folder for what is needed, but is not damaged.
      at_once: how many files are damaged before a command is run.
    """

    at_once = 1

    def __init__(self, given: pathlib.Path, beside: pathlib.Path, world: pathlib.Path):
        self.given, self.beside, self.world = given, beside, world
        self.data = f"--config.data.data_dir={beside / 'tfds'}"

    def prepare(self) -> None:
        """Writes the good files."""
        raise NotImplementedError

    def files(self) -> list[pathlib.Path]:
        """The good files that can be damaged."""
        return sorted(path for path in self.given.rglob("*") if path.is_file())

    def after_damage(self, folder: pathlib.Path, rng: random.Random) -> None:
        """What somebody would do who alters files on purpose, such as writing their checksums."""

    def command(self, folder: pathlib.Path, damaged: pathlib.Path, rng: random.Random) -> list[str]:
        """A command that reads a copy of the good files, in which one or more were damaged.

        Args:
          folder: the copy.
          damaged: one of the damaged files.
          rng: chooses between commands.
        """
        raise NotImplementedError

    def must(self, *arguments: str) -> None:
        """Runs a command that must succeed, to write the good files."""
        ended = command.run(list(arguments), self.world, self.beside.parent, seconds=600)
        assert ended.code == 0, ended
