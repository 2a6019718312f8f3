"""The flag `--config=FILE[:ARGUMENT]` and its overrides `--config.a.b=value`.

Nothing heavy is imported until a config is loaded, so that `--help` answers at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssljax.files import storage
from ssljax.runs.overrides import check_keys, quote_names
from ssljax.settings import config_files
from ssljax.settings.command_line import Command, import_plugins
from ssljax.settings.errors import Ending, InputError
from ssljax.settings.messages import say
from ssljax.settings.option_help import Fields, table
from ssljax.settings.options import flatten
from ssljax.settings.run_settings import run_fields

_HELP = "FILE.py, FILE.py:ARGUMENT or RUN/config.json; --config.a.b=value overrides its settings"
_NAME = re.compile(r"--?config\.(?:(.+)\.)?(method|model)\.name=(.*)")


Described = Callable[[ConfigDict], tuple[ConfigDict, Fields]]


def described_run(config: ConfigDict) -> tuple[ConfigDict, Fields]:
    """See `ssljax.runs.config.described`, which is imported when it is needed."""
    from ssljax.runs.config import described

    return described(config)


class ConfigCommand(Command):
    """A command that takes a config."""

    def config(self, described: Described = described_run) -> None:
        """Adds `--config` and its overrides, `--print_config` and `--plugin`.

        Args:
          described: completes and checks a config, and returns it with its options by key. The
            default takes the config of a training run.
        """
        self._spec, self._described = "", described
        flags.DEFINE_string("config", None, _HELP, flag_values=self.flags)
        self.switch("print_config", "print all settings as JSON, which --config=FILE.json reads")
        self.plugin()
        self.required.append("config")
        self.printing.append("print_config")

    def parse(self, argv: Sequence[str]) -> list[str]:
        """See `Command.parse`; `flags.config` becomes the config with its overrides.

        Raises:
          InputError: no such file, an unknown key (the nearest known one is named), or a bad value.
        """
        spec, argv = _take_config(argv)
        if spec is None:
            if any(re.match(r"--?config\.", argument) for argument in argv):
                raise InputError("--config=FILE is missing")
            return super().parse(argv)
        self._spec = spec
        import_plugins(_plugins(argv))
        config = _load(spec)
        pairs = itertools.pairwise(argv)  # --config.model.name resnet18
        joined = [f"{flag}={value}" for flag, value in pairs if "=" not in flag]
        for argument in [*argv, *joined]:
            if match := _NAME.fullmatch(argument):
                _select(config, match[1] or "", match[2], match[3])
        check_keys(config, argv)
        argv = quote_names(config, argv)
        delattr(self.flags, "config")
        try:
            config_flags.DEFINE_config_dict("config", config, flag_values=self.flags, sys_argv=argv)
        except flags.Error as error:
            raise InputError(str(error).strip().splitlines()[-1]) from error
        self.flags["config"].help, self.flags["config"].default = _HELP, None
        return super().parse(argv)

    def printed(self) -> str:
        """See `Command.printed`.

        Raises:
          InputError: `--print_config` without a config, or with a mistake in it.
        """
        text = super().printed()
        if text or not self.flags["print_config"].value:
            return text
        if not self._spec:
            raise InputError("--config=FILE is missing")
        from ssljax.runs import config_json

        return config_json.dumps(self._described(self.flags.config)[0])

    def help(self) -> str:
        """The text of `--help`, with the settings of the config if there is one."""
        if self._spec:
            config, fields = self._described(self.flags.config)
            settings = table(dict(flatten(config)), fields)
            return f"{super().help()}\n\nsettings of {self._spec}:\n{settings}"
        files = [f"  {name:28} {text}" for name, text in config_files.summaries().items()]
        fields = run_fields()
        defaults = table({key: field.default for key, field in fields.items()}, fields)
        return "\n".join(
            [
                f"{super().help()}\n\nconfigs that come with ssljax:",
                *files,
                "\nsettings of every training run, with their defaults:",
                defaults,
                "\n--config=FILE --help lists all settings of that config, also those of its "
                "method and its model.",
            ]
        )


def load_config(spec: str, **overrides: Any) -> ConfigDict:
    """A config with its overrides, as `--config=SPEC --config.a.b=value` makes it.

    Args:
      spec: FILE.py, FILE.py:ARGUMENT or RUN/config.json.
      **overrides: values by key; `a__b` or, in a dict, `a.b` is the key b in the group a. For
        example `epochs=5, model__width=0.25` or `**{"model.width": 0.25}`.

    Raises:
      InputError: no such file, an unknown key (the nearest known one is named), or a bad value.
    """
    command = ConfigCommand("load_config", "", "")
    command.config(lambda config: (config, {}))
    flags_ = [f"--config.{key.replace('__', '.')}={value}" for key, value in overrides.items()]
    command.parse([f"--config={spec}", *flags_])
    config: ConfigDict = command.flags.config
    return config


def _take_config(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `--config=SPEC` or `--config SPEC`, and the other arguments."""
    spec, rest, takes_next = None, [], False
    for argument in argv:
        if takes_next:
            spec, takes_next = argument, False
        elif argument in ("--config", "-config"):
            takes_next = True
        elif match := re.fullmatch(r"--?config=(.*)", argument, re.DOTALL):
            spec = match[1]
        else:
            rest.append(argument)
    if spec == "" or takes_next:
        raise InputError("--config=FILE is missing")
    return spec, rest


def _plugins(argv: Sequence[str]) -> str:
    """The value of `--plugin`, before flags are parsed: the config file may use the plugin."""
    found = [re.fullmatch(r"--?plugin=(.*)", argument) for argument in argv]
    pairs = itertools.pairwise(argv)
    following = [value for flag, value in pairs if flag in ("--plugin", "-plugin")]
    return ",".join([match[1] for match in found if match] + following)


def _load(spec: str) -> ConfigDict:
    try:
        config = _load_json(spec) if spec.endswith(".json") else config_files.load(spec)
    except Ending:
        raise
    except Exception as error:  # whatever the user's file raises
        raise InputError(f"--config: {spec}: {str(error) or type(error).__name__}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config of {spec} returned no ConfigDict")
    return config.unlock()


def _load_json(spec: str) -> ConfigDict:
    from ssljax.runs import config_json

    try:
        return config_json.read(storage.path(spec, "--config"))
    except FileNotFoundError as error:
        raise InputError(f"--config: no file {spec}") from error
    except OSError as error:
        raise InputError(f"--config: {spec}: {error.strerror}") from error


def _select(config: ConfigDict, parents: str, group: str, name: str) -> None:
    """Gives the config another method or model, before its options are overridden."""
    from ssljax.runs.config import select

    owner: Any = config
    for key in filter(None, parents.split(".")):
        owner = owner[key] if isinstance(owner, ConfigDict) and key in owner else {}
    if isinstance(owner, ConfigDict) and group in owner:
        for dropped in select(owner, group, name):
            say(f"{group}.name={name}: {dropped} is left out; it belongs to the other {group}")
