"""Markdown as GitHub and model hubs render it, in which names from strangers stay text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def code(text: str, in_table: bool = False) -> str:
    """A name as a code span, in which neither Markdown nor HTML is interpreted.

    Line breaks become spaces, and other characters that cannot be printed become �.

    Args:
      text: any text.
      in_table: a vertical bar is escaped; it would end the cell.
    """
    text = printable(" ".join(text.split()))
    ticks = _fence(text, shortest=1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    span = f"{ticks}{pad}{text or ' '}{pad}{ticks}"
    return span.replace("|", "\\|") if in_table else span


def block(language: str, text: str) -> str:
    """A fenced block of code, which nothing in the code can end."""
    lines = "\n".join(printable(line) for line in text.strip("\n").split("\n"))
    fence = _fence(lines, shortest=3)
    return f"{fence}{language}\n{lines}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the columns after the first one are aligned to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def printable(text: str) -> str:
    """Text in which characters that cannot be printed or encoded are replaced with �."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _fence(text: str, shortest: int) -> str:
    """More backticks than the text has in a row."""
    return "`" * max([shortest, *(len(run) + 1 for run in re.findall("`+", text))])
