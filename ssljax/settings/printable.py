r"""Names from data sets, files and runs as text that a terminal and a browser only display.

A name may hold terminal escapes, line breaks, marks that reverse the direction of writing, or
characters without any ink. They are shown as escapes, such as `\x1b` and `\u202e`, so that a
reader sees that they are there.
"""

from __future__ import annotations

import os
import shlex
import unicodedata

LONGEST_NAME = 200  # characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # general categories of Unicode
# Letters and marks that are blank, although their categories are those of visible ones.
_BLANK = set("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
_JOINERS = "\u200c\u200d"
_MOST_MARKS = 8  # on one letter; writing systems need fewer


def printable(text: str) -> str:
    """A text as one line that acts nowhere.

    Escaped are control and format characters, line breaks, surrogates (bytes of a file's name that
    are not UTF-8), private and unassigned characters, blank letters, and marks without a letter or
    after the eighth on one. Joiners stay between characters outside ASCII, where Persian, Indic
    scripts and emoji need them: they neither reorder text nor act on a terminal. Backslashes stay
    as they are, so an escape can also be the name itself.

    Args:
      text: any text.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], _MOST_MARKS
    for place, letter in enumerate(text):
        category = unicodedata.category(letter)
        marks = marks + 1 if category[0] == "M" else 0
        if letter in _JOINERS:
            hidden = not _joins(text, place)
        else:
            hidden = category in _HIDDEN or letter in _BLANK or marks > _MOST_MARKS
        shown.append(_escape(letter) if hidden else letter)
    return "".join(shown)


def printable_lines(text: str) -> str:
    """A text whose line breaks stay, and whose lines are made printable."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    """A text made printable, without its middle if it has more than `most` characters."""
    if len(text) > 2 * most:  # a name of megabytes is not looked at as a whole
        text = text[:most] + text[-most:]
    text = printable(text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def quoted(word: str) -> str:
    """A word of a command that can be copied to a shell; bash's `$'…'` if it has escapes."""
    if printable(word) == word:
        return shlex.quote(word)
    letters = (
        letter
        if printable(letter) == letter and letter not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
        for letter in word
    )
    return f"$'{''.join(letters)}'"


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands between two characters that it can join."""
    around = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    return all(letter and not letter.isascii() and letter not in _JOINERS for letter in around)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
