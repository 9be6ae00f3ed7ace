"""Checks file names. Pure: it says which rule a name breaks, and never changes a name.

The pserver checks names too (daemon/storage/names.py): the tracker protects its peers, and a peer trusts no tracker.
"""

import re
import unicodedata

from tracker.errors import BadName

NAME_BYTES = 1000
COMPONENT_BYTES = 200
COMPONENTS = 32

_RESERVED = r"(?:[Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|[Cc][Oo][Mm][0-9]|[Ll][Pp][Tt][0-9])"
# Most names are plain ASCII and pass one match. Any other name is checked rule by rule.
_PLAIN_COMPONENT = rf"(?!{_RESERVED}(?:[./]|\Z))[!-\-0-9;-\[\]-~][ -.0-9;-\[\]-~]{{0,199}}(?<![. ])"
_PLAIN = re.compile(rf"{_PLAIN_COMPONENT}(?:/{_PLAIN_COMPONENT}){{0,31}}")
_RESERVED_STEM = re.compile(_RESERVED)

_JOINER = 0x200D
_BIDI = frozenset({0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)})
_ZERO_WIDTH = frozenset({0x180E, 0x200B, 0x200C, _JOINER, 0xFEFF, *range(0x2060, 0x2065)})
_EMOJI_STYLE = "\ufe0f"
# Occurs in emoji sequences, but is not in Unicode's category "other symbol".
_EMOJI_TOO = "\u2194"


def check_name(name: str) -> str:
    """Return the name, if it may be shared.

    Raises:
        BadName: it breaks a rule; the message says which.
    """
    if len(name) <= NAME_BYTES and _PLAIN.fullmatch(name):
        return name
    fault = _fault(name)
    if fault is not None:
        raise BadName(f"bad name {printable(name)}: {fault}")
    return name


def fold(name: str) -> str:
    """Return the name after NFC and case folding. Names that are equal then are one name at one peer."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def printable(text: str, limit: int = 80) -> str:
    """Return text in quotes, on one line, cut to `limit` characters, and without control characters."""
    shown = ascii(text) if not text.isprintable() or not text.isascii() else f"'{text}'"
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def _fault(name: str) -> str | None:
    if not name:
        return "it is empty"
    if any(0xD800 <= ord(c) < 0xE000 for c in name):
        return "it contains a surrogate"
    if len(name.encode()) > NAME_BYTES:
        return f"it is over {NAME_BYTES} bytes of UTF-8"
    components = name.split("/")
    if len(components) > COMPONENTS:
        return f"it has more than {COMPONENTS} components"
    for component in components:
        fault = _component_fault(component)
        if fault is not None:
            return fault
    return None


def _component_fault(component: str) -> str | None:
    if not component:
        return "a component is empty (a name neither begins nor ends with '/', and has no '//')"
    if len(component.encode()) > COMPONENT_BYTES:
        return f"a component is over {COMPONENT_BYTES} bytes of UTF-8"
    if component.startswith("."):
        return "a component begins with a dot"
    if component.endswith((".", " ")):
        return "a component ends in a dot or a space"
    if _RESERVED_STEM.fullmatch(component.split(".", 1)[0]):
        return f"{component.split('.', 1)[0]} is a reserved device name on Windows"
    for at, character in enumerate(component):
        fault = _character_fault(component, at, ord(character))
        if fault is not None:
            return fault
    return None


def _character_fault(component: str, at: int, code: int) -> str | None:
    if code in {0x5C, 0x3A}:
        return f"it contains '{chr(code)}'"
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"it contains the control character U+{code:04X}"
    if code in _BIDI:
        return f"it contains the bidirectional control U+{code:04X}"
    if code in _ZERO_WIDTH and not (code == _JOINER and _joins_emoji(component, at)):
        return f"it contains the zero-width character U+{code:04X}"
    return None


def _joins_emoji(component: str, at: int) -> bool:
    """Return whether the joiner at this position is between two emoji; the first may have a skin tone or a style."""
    before = component[:at].removesuffix(_EMOJI_STYLE)[-1:]
    return _is_emoji(before) and _is_emoji(component[at + 1 : at + 2])


def _is_emoji(character: str) -> bool:
    if not character:
        return False
    skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return skin_tone or character == _EMOJI_TOO or unicodedata.category(character) == "So"
