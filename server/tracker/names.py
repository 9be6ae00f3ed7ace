"""Checks file names. Pure: it says which rule a name breaks, and never changes a name.

The pserver checks names too, by the same rules and in the same words (peer/daemon/storage/names.py). The tracker
protects its peers, and a peer trusts no tracker.
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
    fault = name_fault(name)
    if fault:
        raise BadName(f"bad name {printable(name)}: {fault}")
    return name


def name_fault(name: str) -> str:
    """Return the first rule that a name breaks, as text for a user; empty if it breaks none."""
    # A surrogate cannot be encoded; `_component_fault` refuses it with its own message.
    if len(name.encode(errors="surrogatepass")) > NAME_BYTES:
        return f"the name is longer than {NAME_BYTES} bytes"
    components = name.split("/")
    if len(components) > COMPONENTS:
        return f"the name has more than {COMPONENTS} components"
    for component in components:
        fault = _component_fault(component)
        if fault:
            return fault
    return ""


def fold(name: str) -> str:
    """Return the name after NFC and case folding. Names that are equal then are one name at one peer."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def printable(text: str, limit: int = 80) -> str:
    """Return text in quotes, on one line, cut to `limit` characters, and without control characters."""
    shown = ascii(text) if not text.isprintable() or not text.isascii() else f"'{text}'"
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def _component_fault(component: str) -> str:
    if not component:
        return "the name is empty, begins or ends with '/', or contains '//'"
    if any(0xD800 <= ord(c) < 0xE000 for c in component):
        return "the name is not valid UTF-8 (it contains a surrogate)"
    if len(component.encode()) > COMPONENT_BYTES:
        return f"a component of the name is longer than {COMPONENT_BYTES} bytes"
    if component.startswith("."):
        return "a component of the name begins with a dot (hidden files are not shared)"
    if component.endswith((".", " ")):
        return "a component of the name ends in a dot or a space (invalid on Windows)"
    for separator in "\\:":
        if separator in component:
            return f"the name contains '{separator}' (invalid on Windows)"
    codes = [ord(c) for c in component]
    if any(code < 0x20 or 0x7F <= code < 0xA0 for code in codes):
        return "the name contains a control character"
    if not _BIDI.isdisjoint(codes):
        return "the name contains a bidirectional control character, which reorders the text around it"
    if any(
        code in _ZERO_WIDTH and not (code == _JOINER and _joins_emoji(component, at)) for at, code in enumerate(codes)
    ):
        return "the name contains a zero-width (invisible) character"
    if _RESERVED_STEM.fullmatch(component.split(".", 1)[0]):
        return "a component of the name is a reserved device name on Windows"
    return ""


def _joins_emoji(component: str, at: int) -> bool:
    """Return whether the joiner at this position is between two emoji; the first may have a skin tone or a style."""
    before = component[:at].removesuffix(_EMOJI_STYLE)[-1:]
    return _is_emoji(before) and _is_emoji(component[at + 1 : at + 2])


def _is_emoji(character: str) -> bool:
    if not character:
        return False
    skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return skin_tone or character == _EMOJI_TOO or unicodedata.category(character) == "So"
