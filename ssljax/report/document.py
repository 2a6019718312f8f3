"""What all pages share: an HTML file that needs no other files, and its parts."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ssljax.report.thumbnails import Sheet, Thumbnail, data_uri
from ssljax.settings.printable import LONGEST_NAME, shortened

_LONGEST_TEXT = 2000  # characters of a paragraph
_LONGEST_CAPTION = 400


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
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        f"{reload}<title>{name(title)}</title><style>{_file('style.css')}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def text(value: object, most: int = _LONGEST_TEXT) -> str:
    """Text from anywhere, in HTML: markup in it is text, and what acts or is invisible is shown.

    Args:
      value: the text.
      most: characters; the middle of a longer text is left out.
    """
    return html.escape(shortened(str(value), most))


def name(value: object) -> str:
    """A name from anywhere; see `text`."""
    return text(value, LONGEST_NAME)


def script() -> str:
    """The one script that runs on a page."""
    return f"<script>{_file('feature_map.js')}</script>"


@functools.cache
def _file(name: str) -> str:
    return importlib.resources.files("ssljax.report").joinpath(name).read_text()


@functools.cache
def _policy() -> str:
    """What a page may do: show its own styles and images, and run the script of `script`."""
    digest = base64.b64encode(hashlib.sha256(_file("feature_map.js").encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def row(items: Iterable[str]) -> str:
    """Parts beside each other, as far as there is room."""
    return f'<div class="row">{"".join(items)}</div>'


def chart(svg: str, note: str) -> str:
    """A chart with a sentence below it, if there is one; empty if there is no chart."""
    below = f'<p class="note">{text(note)}</p>' if note else ""
    return svg and f'<div class="chart">{svg}{below}</div>'


def details(summary: str, values: Any) -> str:
    """JSON values that are folded."""
    lines = html.escape(json.dumps(values, indent=2))  # JSON escapes all but ASCII
    return f"<details><summary>{text(summary)}</summary><pre>{lines}</pre></details>"


def sheet(content: Sheet) -> str:
    """Thumbnails with a heading and a note."""
    return f'<h2>{text(content.title)}</h2><p class="note">{text(content.note)}</p>' + row(
        map(_group, content.groups)
    )


def _group(group: Sequence[Thumbnail]) -> str:
    figures = "".join(map(_figure, group))
    return f'<div class="group">{figures}</div>' if len(group) > 1 else figures


def _figure(thumbnail: Thumbnail) -> str:
    kind = {None: "", True: "good", False: "bad"}[thumbnail.good]
    caption = text(thumbnail.caption, _LONGEST_CAPTION)
    return (
        f'<figure class="{kind}"><img src="{data_uri(thumbnail.pixels)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
