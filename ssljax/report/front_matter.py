"""The YAML at the beginning of a model card, which a model hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def render(values: Mapping[str, Any]) -> str:
    """Nested dicts, lists, texts, numbers and booleans as YAML between two lines of `---`.

    Texts are quoted, so that none is taken for something else.
    """
    return "\n".join(["---", *_lines(values), "---"])


def _lines(value: Any) -> list[str]:
    """A non-empty dict or list as lines, without indentation."""
    lines = []
    pairs = value.items() if isinstance(value, Mapping) else ((None, entry) for entry in value)
    for key, entry in pairs:
        if isinstance(entry, Mapping | list) and entry:
            inner = _lines(entry)
            if key is None:
                lines += [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
            else:
                lines += [f"{key}:", *(f"  {line}" for line in inner)]
        else:
            lines.append(f"{'-' if key is None else f'{key}:'} {_scalar(entry)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        # YAML's double-quoted texts have JSON's escapes, but not JSON's pairs of surrogates.
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(letter if letter.isprintable() else _escape(letter) for letter in quoted)
    text = json.dumps(value, allow_nan=False)
    # YAML 1.1 takes 1e-05 for a text.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _escape(letter: str) -> str:
    number = ord(letter)
    return f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"
