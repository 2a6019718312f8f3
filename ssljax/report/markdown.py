"""Markdown as GitHub and model hubs render it, in which names from strangers stay text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ssljax.settings.printable import printable_lines, shortened


def code(text: str, in_table: bool = False) -> str:
    """A name as a code span, in which neither Markdown nor HTML is interpreted.

    What acts or cannot be seen is shown as an escape, and a long name loses its middle.

    Args:
      text: any text.
      in_table: a vertical bar is escaped; it would end the cell.
    """
    text = shortened(text)
    ticks = _fence(text, shortest=1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    span = f"{ticks}{pad}{text or ' '}{pad}{ticks}"
    return span.replace("|", "\\|") if in_table else span


def block(language: str, text: str) -> str:
    """A fenced block of code, which nothing in the code can end."""
    lines = printable_lines(text.strip("\n"))
    fence = _fence(lines, shortest=3)
    return f"{fence}{language}\n{lines}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the columns after the first one are aligned to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _fence(text: str, shortest: int) -> str:
    """More backticks than the text has in a row."""
    return "`" * max([shortest, *(len(run) + 1 for run in re.findall("`+", text))])
