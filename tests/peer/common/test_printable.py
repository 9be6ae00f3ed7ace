"""Text of other peers is shown as one harmless line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.printable import printable


@pytest.mark.parametrize(
    "text",
    [
        "plain name.txt",
        "café",
        "日本語.txt",
        "a [red]b[/red]",
        "smile 😀.png",
        "heart ❤️.png",
        "👨‍👩‍👧.jpg",
        "👩🏽‍🚀.jpg",
        "🏃‍♂️",
    ],
)
def test_harmless_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("one\ntwo\r\tthree", r"one\x0atwo\x0d\x09three"),
        ("\x7f\x80\x9b31m", r"\x7f\x80\x9b31m"),
        ("evil\u202efdp.exe", r"evil\u202efdp.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("a\u200db", r"a\u200db"),
        ("😀\u200d", r"😀\u200d"),
        ("\ud800", r"\ud800"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\U000e0041", r"\U000e0041"),
        ("fill\u3164er", r"fill\u3164er"),
    ],
)
def test_harmful_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_no_input_leaves_a_harmful_character(text: str) -> None:
    shown = printable(text)
    left = {char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert left <= {"\u200d"}
    assert len(shown.splitlines()) <= 1
