"""Text that is shown: what is escaped, what stays, and what is left out."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.settings.printable import printable, printable_lines, quoted, shortened

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]8;;http://a\x07", r"\x1b[31mred\x1b]8;;http://a\x07"),
        ("a\x9b2J\x7f\0\b\r\n\tb", r"a\x9b2J\x7f\x00\x08\r\n\tb"),
        ("gpj.\u202eexe\u2066\u200f\u061c", r"gpj.\u202eexe\u2066\u200f\u061c"),
        ("a\u200bb\ufeff\u2060\u00ad\u2028\u2029\x85", r"a\u200bb\ufeff\u2060\xad\u2028\u2029\x85"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\ue000\U000e0041\u0378", r"\ue000\U000e0041\u0378"),
        ("\u3164\u115f", r"\u3164\u115f"),
        ("a\u200db\u200c", r"a\u200db\u200c"),
        ("👩\u200d\u200d👧", r"👩\u200d\u200d👧"),
        ("a" + 12 * "\u0301", "a" + 8 * "\u0301" + 4 * r"\u0301"),
        ("\u0301a", r"\u0301a"),
    ],
)
def test_what_acts_or_cannot_be_seen_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ankle boot", r"C:\x1b", "Grüße, 東京\u3000駅", "שלום", "e\u0301", "क्\u200dष",
        "می\u200cخواهم", "👩\u200d👧", "❤\ufe0f", "<b>&amp;", "…",
    ],
)  # fmt: skip
def test_what_can_be_seen_stays(text):
    assert printable(text) == text


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_acts_is_left(text):
    for shown in (printable(text), shortened(text, 7)):
        shown.encode()
        kinds = {unicodedata.category(letter) for letter in shown if letter not in "\u200c\u200d"}
        assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert len(shown) <= 7
    assert printable(printable(text)) == printable(text)


def test_a_long_name_loses_its_middle():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcde…hijk"
    assert shortened("a" + 2**16 * "\x1b" + "b", 20) == r"a\x1b\x1b\…\x1b\x1bb"
    assert len(shortened("x" * 2**24)) == 200


def test_lines_stay_apart():
    assert printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@pytest.mark.parametrize("word", ["a b", "it's", "a\x1b[2J'\\n\n9", "\udcff\u202e", "é\t"])
def test_a_quoted_word_is_the_word_again_in_a_shell(word):
    assert printable(quoted(word)) == quoted(word)
    program = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]))"
    line = f"{sys.executable} -c '{program}' {quoted(word)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == os.fsencode(word)
