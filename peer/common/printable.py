"""Escapes text of other peers for a screen or a log line. Changes what is shown, never what is stored or sent.

Names, users and messages come from other peers. Unescaped, they could move the cursor, start a new line, or display
differently from their content (the "Trojan Source" attack with bidi controls).
"""

from __future__ import annotations

import unicodedata

# Unicode categories: control, format (bidi controls, zero-width characters), surrogates, line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Letters and marks without a glyph: the Hangul fillers and the combining grapheme joiner.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u3164\uffa0")
_JOINER = "\u200d"
_EMOJI_PRESENTATION = "\ufe0f"


def printable(text: str) -> str:
    r"""Return `text` as one line, with each harmful character replaced by its escape: `\x1b`, `\u202e`.

    A zero-width joiner between two emoji stays, because it joins them to one glyph.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(char) if _harmful(char) and not _joins_emoji(text, place) else char for place, char in enumerate(text)
    )


def _harmful(char: str) -> bool:
    return unicodedata.category(char) in _HARMFUL or char in _INVISIBLE


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joins_emoji(text: str, place: int) -> bool:
    if text[place] != _JOINER or not 0 < place < len(text) - 1:
        return False
    before, after = text[place - 1], text[place + 1]
    return (before == _EMOJI_PRESENTATION or _is_emoji(before)) and _is_emoji(after)


def _is_emoji(char: str) -> bool:
    # Emoji are symbols ("So"); their skin tones are modifiers ("Sk").
    return ord(char) >= 0x2000 and unicodedata.category(char) in {"So", "Sk"}
