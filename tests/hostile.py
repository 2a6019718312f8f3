"""Names that would act in a terminal or a browser, for tests."""

from __future__ import annotations

import re

MARKUP = '</title><script>alert(\'$x_{$\')</script>"onload="x" &amp; --><b>'
INVISIBLE = (
    "a\x1b[31m\x9b2J\x1b]8;;http://x\x07\r\n\u2028\0\b\x7f\u202egpj\u2066\u200f\u200b\ufeff\udcff"
)
IMAGE = '<img src=x onerror="ran=1"><svg onload=alert(1)>'
LONG = "long" + 2**16 * "x" + "end"

# What names of classes in a prepared data set can be: lines of UTF-8.
CLASSES = (
    MARKUP,
    "c\x1b[2J\x1b]0;title\x07\x1b]8;;http://x\x1b\\link",
    "d\x9b31m\x85e\x7f\b\0\t",
    "e\u202egpj.\u2066\u2067\u2068\u202a\u202b\u202d\u200e\u200f\u061c",
    "f\u200b\ufeff\u2060\u3164\u2028\u2029\u00ad",
    "g" + 3000 * "\u0301",
    IMAGE,
    "`|[a](javascript:alert(1))\\|<!--",
    LONG,
)

# What names of files can be on Linux: all bytes but `/` and 0.
FILES = (
    b"a\x1b[31m\x1b]0;x\x07.png",
    b"b\nssljax-predict: forged\r.png",
    "c\x9b\u202e\u200f\u2028.png".encode(),
    b"d\xff\x9b.png",
    b"<img src=x onerror=alert(1)>.png",
    b"e" * 200 + "\u0301".encode() * 20 + b".png",
)

_ACTS = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b\u200e\u200f\u061c\u2028-\u202e"
                   r"\u2060-\u2069\ufeff]")  # fmt: skip


def acting(text: str) -> list[str]:
    """The characters of a text that act in a terminal or are invisible; not tabs and line feeds."""
    return _ACTS.findall(text)
