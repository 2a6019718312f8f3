"""What all pages share: an HTML file that needs no other files, and its parts."""

from __future__ import annotations

import functools
import html
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ssljax.report.thumbnails import Sheet, Thumbnail, data_uri


def document(title: str, parts: Iterable[str], reload_after: int = 0) -> str:
    """A page.

    Args:
      title: of the browser's tab, as text.
      parts: HTML.
      reload_after: seconds after which a browser loads the page again; 0: never.
    """
    reload = f'<meta http-equiv="refresh" content="{reload_after}">' if reload_after else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"{reload}<title>{html.escape(title)}</title><style>{_style()}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


@functools.cache
def _style() -> str:
    return importlib.resources.files("ssljax.report").joinpath("style.css").read_text()


def row(items: Iterable[str]) -> str:
    """Parts beside each other, as far as there is room."""
    return f'<div class="row">{"".join(items)}</div>'


def details(summary: str, values: Any) -> str:
    """JSON values that are folded."""
    text = html.escape(json.dumps(values, indent=2))
    return f"<details><summary>{html.escape(summary)}</summary><pre>{text}</pre></details>"


def sheet(content: Sheet) -> str:
    """Thumbnails with a heading and a note."""
    return (
        f"<h2>{html.escape(content.title)}</h2>"
        f'<p class="note">{html.escape(content.note)}</p>' + row(map(_group, content.groups))
    )


def _group(group: Sequence[Thumbnail]) -> str:
    figures = "".join(map(_figure, group))
    return f'<div class="group">{figures}</div>' if len(group) > 1 else figures


def _figure(thumbnail: Thumbnail) -> str:
    kind = {None: "", True: "good", False: "bad"}[thumbnail.good]
    caption = html.escape(thumbnail.caption)
    return (
        f'<figure class="{kind}"><img src="{data_uri(thumbnail.pixels)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
