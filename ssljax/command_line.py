"""What all commands share: flags, help, one-line errors and exit codes.

Nothing heavy is imported here, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssljax import config_files
from ssljax.errors import Ending, InputError, Interrupted, nearest


class Command:
    """A command with flags of its own (no global ones, so that commands can call each other)."""

    def __init__(self, name: str, description: str, usage: str):
        self.name, self.description, self.usage = name, description, usage
        self.flags = flags.FlagValues()
        self._required: list[str] = []
        flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=self.flags)

    def text(self, name: str, help_text: str, default: str = "", required: bool = False) -> None:
        """Adds a flag that takes a string."""
        flags.DEFINE_string(name, default, help_text, flag_values=self.flags)
        self._required += [name] if required else []

    def number(self, name: str, help_text: str) -> None:
        """Adds a flag that takes a whole number; 0 unless given."""
        flags.DEFINE_integer(name, 0, help_text, lower_bound=0, flag_values=self.flags)

    def switch(self, name: str, help_text: str) -> None:
        """Adds a flag that is off unless given."""
        flags.DEFINE_bool(name, False, help_text, flag_values=self.flags)

    def config(self) -> None:
        """Adds `--config=FILE[:ARGUMENT]` and its overrides `--config.a.b=value`."""
        config_flags.DEFINE_config_file(
            "config",
            None,
            "a config file of ml_collections, FILE[:ARGUMENT]; any value in it is overridden by "
            "--config.a.b=value",
            flag_values=self.flags,
        )
        self._required.append("config")

    def parse(self, argv: Sequence[str]) -> list[str]:
        """Parses the command line; returns what is no flag.

        Raises:
          InputError: an unknown flag or key (the nearest known one is named), or a bad value.
        """
        # ml_collections looks for the config file and its overrides in sys.argv itself.
        sys.argv = [self.name, *map(_find_config, _join_config(argv))]
        try:
            positional = self.flags(sys.argv)[1:]
        except flags.UnrecognizedFlagError as error:
            known = [f"--{name}" for name in self.flags if "." not in name]
            if error.flagname.startswith("config."):
                raise InputError("--config=FILE is missing") from error
            raise InputError(
                f"unknown flag --{error.flagname}: {nearest(f'--{error.flagname}', known)}"
            ) from error
        except (AttributeError, KeyError) as error:
            raise InputError(_unknown_key(sys.argv) or str(error)) from error
        except (flags.Error, OSError) as error:
            # What a config file raised comes with its traceback; its last line says what.
            raise InputError(str(error).strip().splitlines()[-1]) from error
        if not self.flags["help"].value:
            for name in self._required:
                if not self.flags[name].value:
                    raise InputError(f"--{name} is missing; see --help")
        return positional

    def help(self) -> str:
        """The text of `--help`."""
        lines = [self.description, "", f"usage: {self.usage}", ""]
        for name in self.flags:
            flag = self.flags[name]
            if name == flag.name and "." not in name:
                default = f" (default: {flag.default})" if flag.default else ""
                lines.append(f"  --{name:18} {flag.help}{default}")
        return "\n".join(lines)

    def run(self, main: Callable[[flags.FlagValues, list[str]], None]) -> None:
        """Runs main(flags, positional) and ends the process with an exit code.

        0: done. 1: training failed. 2: a user's mistake. 130 or 143: Ctrl-C or SIGTERM.
        """
        quiet_libraries()
        signal.signal(signal.SIGTERM, _terminated)
        try:
            positional = self.parse(sys.argv[1:])
            if self.flags["help"].value:
                print(self.help())
            else:
                main(self.flags, positional)
                _take_leave()
        except Ending as error:
            self._end(str(error), error.exit_code, error.shared)
        except KeyboardInterrupt:
            self._end("interrupted", 130)
        except BrokenPipeError:
            os._exit(0)  # the reader of our output (`| head`) has left

    def _end(self, message: str, code: int, shared: bool = False) -> None:
        sys.stdout.flush()
        print(f"{self.name}: {message}", file=sys.stderr, flush=True)
        if shared:
            _take_leave()
        # At once: after a failure, libraries' threads would still print their own view of it.
        os._exit(code)


def _take_leave() -> None:
    """Of the run's other processes, if there are any."""
    if distributed := sys.modules.get("ssljax.training.distributed"):
        distributed.leave()


def _join_config(argv: Sequence[str]) -> list[str]:
    """Turns `--config FILE` into `--config=FILE`."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _find_config(argument: str) -> str:
    """Lets `--config=configs/NAME.py` work away from a checkout."""
    prefix, _, value = argument.partition("=")
    if prefix.lstrip("-") != "config" or not value:
        return argument
    name, colon, rest = value.partition(":")
    return f"--config={config_files.find(name)}{colon}{rest}"


def _unknown_key(argv: Sequence[str]) -> str | None:
    """The first override of a key that the config does not have, and the nearest it has."""
    spec = next(argument for argument in argv if argument.lstrip("-").startswith("config="))
    config = config_files.load(spec.partition("=")[2])
    for argument in argv:
        group, path = config, argument.lstrip("-").partition("=")[0].split(".")
        for depth, key in enumerate(path[1:] if path[0] == "config" else []):
            if not isinstance(group, ConfigDict) or key not in group:
                known = list(group) if isinstance(group, ConfigDict) else []
                return f"--config: unknown key {'.'.join(path[1 : depth + 2])}: " + (
                    nearest(key, known) if known else "it stands below a value"
                )
            group = group[key]
    return None


def _terminated(number: int, frame: object) -> None:
    """As an exception, SIGTERM lets half-written things be cleared away."""
    raise Interrupted(number, "terminated")


def quiet_libraries() -> None:
    """Keeps what libraries say to developers out of the terminal.

    Their faults still reach the command as exceptions, which end it with one line.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for library in ("absl", "asyncio", "gcsfs"):
        logging.getLogger(library).setLevel(logging.CRITICAL)

    def unraisable(event: sys.UnraisableHookArgs) -> None:
        if "Event loop is closed" not in str(event.exc_value):  # tensorstore's, after a fault
            sys.__unraisablehook__(event)

    def in_thread(event: threading.ExceptHookArgs) -> None:
        if not isinstance(event.exc_value, OSError):  # TensorBoard's writer, on a full disk
            threading.__excepthook__(event)

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
