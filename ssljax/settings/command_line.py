"""Flags, their help and their errors, for all commands.

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from absl import flags

from ssljax.settings.command_process import disconnect, run_command
from ssljax.settings.errors import InputError, nearest
from ssljax.settings.messages import show


class Command:
    """A command with flags of its own; none are global, so that commands can call each other."""

    def __init__(self, name: str, description: str, usage: str):
        self.name, self.description, self.usage = name, description, usage
        self.flags = flags.FlagValues()
        self.required: list[str] = []
        self.printing = ["help"]  # switches that print something instead of running the command
        flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=self.flags)

    def text(self, name: str, help_text: str, default: str = "", required: bool = False) -> None:
        """Adds a flag that takes a string."""
        flags.DEFINE_string(name, default, help_text, flag_values=self.flags)
        self.required += [name] if required else []

    def number(self, name: str, help_text: str, default: int = 0, at_least: int = 0) -> None:
        """Adds a flag that takes a whole number."""
        flags.DEFINE_integer(name, default, help_text, lower_bound=at_least, flag_values=self.flags)

    def switch(self, name: str, help_text: str) -> None:
        """Adds a flag that is off by default."""
        flags.DEFINE_bool(name, False, help_text, flag_values=self.flags)

    def plugin(self) -> None:
        """Adds `--plugin=MODULE[,MODULE…]`."""
        self.text(
            "plugin",
            "MODULE[,MODULE…]: Python modules to import, which add methods or models",
        )

    def parse(self, argv: Sequence[str]) -> list[str]:
        """Parses the command line and returns the arguments that are not flags.

        Raises:
          InputError: an unknown flag (the nearest known one is named) or a bad value.
        """
        try:
            positional = self.flags([self.name, *argv])[1:]
        except flags.UnrecognizedFlagError as error:
            known = [f"--{name}" for name in self.flags if "." not in name]
            raise InputError(
                f"unknown flag --{error.flagname}: {nearest(f'--{error.flagname}', known)}"
            ) from error
        except flags.Error as error:
            raise InputError(str(error).strip().splitlines()[-1]) from error
        if not any(self.flags[name].value for name in self.printing):
            for name in self.required:
                if not self.flags[name].value:
                    raise InputError(f"--{name} is missing; see --help")
            if "plugin" in self.flags:
                import_plugins(self.flags["plugin"].value)
        return positional

    def printed(self) -> str:
        """What is printed instead of running the command; empty if it is to run."""
        return self.help() if self.flags["help"].value else ""

    def help(self) -> str:
        """The text of `--help`."""
        lines = [self.description, "", f"usage: {self.usage}", ""]
        for name in self.flags:
            flag = self.flags[name]
            if name == flag.name and "." not in name:
                default = "" if flag.default in (None, "", 0, False) else flag.default
                shown = f" (default: {default})" if default else ""
                lines.append(f"  --{name:18} {flag.help}{shown}")
        return "\n".join(lines)

    def run(self, main: Callable[[flags.FlagValues, list[str]], None]) -> None:
        """Runs main(flags, positional) as a command, see `run_command`."""

        def parse_and_run() -> None:
            positional = self.parse(sys.argv[1:])
            if text := self.printed():
                show(*text.split("\n"))
            else:
                main(self.flags, positional)
                disconnect()

        run_command(self.name, parse_and_run)


def no_arguments(positional: Sequence[str]) -> None:
    """Refuses arguments that are not flags.

    Raises:
      InputError: there is one.
    """
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")


def import_plugins(modules: str) -> None:
    """Imports the user's modules, which add entries to ssljax's tables.

    Only what the user names on this command line is imported, never what a run folder names. The
    working folder is searched last, so that no module of a library can be replaced by a file there.

    Args:
      modules: comma-separated names, such as `my_methods,package.backbones`.

    Raises:
      InputError: a module cannot be imported.
    """
    import importlib

    for name in filter(None, (part.strip() for part in modules.split(","))):
        folder = os.getcwd()
        if folder not in sys.path and "" not in sys.path:
            sys.path.append(folder)
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the user's module raises
            raise InputError(
                f"--plugin: {name} cannot be imported: {type(error).__name__}: {error}"
            ) from error
