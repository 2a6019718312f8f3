"""Configs as JSON: `config.json` of a run folder, and what `--print_config` prints."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from ssljax.files import untrusted
from ssljax.runs.config import FORMAT
from ssljax.settings.errors import InputError


def dumps(config: ConfigDict) -> str:
    """A config with a format number."""
    return json.dumps({"format": FORMAT, **config.to_dict()}, indent=2)


def read(path: pathlib.Path) -> ConfigDict:
    """Reads what `dumps` wrote; nothing but the format is checked.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it cannot be read, is damaged, or has another format.
    """
    values = untrusted.read_json(path, dict[str, Any], "it should hold the settings of a run")
    found = values.pop("format", None)
    if found != FORMAT:
        raise InputError(
            f"{path}: the run has format {found!r:.50}, this version of ssljax reads "
            f"format {FORMAT}; train it again, or use the version that wrote it"
        )
    return ConfigDict(_tuples(values))


def _tuples(value: Any) -> Any:
    """JSON has lists where settings are tuples."""
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
