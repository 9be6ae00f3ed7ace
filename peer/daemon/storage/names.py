"""The pserver's only check of names. Pure: a bad name is refused with the rule that it breaks, and never rewritten.

The tracker checks names by the same rules, and names a rule in the same words (server/tracker/names.py).

A name is one or more components joined by "/", relative to the shared folder. A name that passes is safe to open below
a folder on Linux, macOS and Windows, and safe to print on a screen.
"""

from __future__ import annotations

import re
import unicodedata

from daemon.errors import BadName

NAME_BYTES_MAX = 1000
COMPONENTS_MAX = 32
COMPONENT_BYTES_MAX = 200

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ZERO_WIDTH = re.compile("[\u180e\u200b-\u200d\u2060-\u2064\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Windows opens a device for these names, also with anything after the first dot.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)", re.IGNORECASE | re.ASCII)
# Nearly all components match this one expression and need no further check but that of device names.
_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_. -]{0,198}[A-Za-z0-9_-])?")

_JOINER = "\u200d"
_EMOJI_STYLE = "\ufe0f"
# Symbols of emoji sequences that are not in Unicode's category "other symbol".
_EMOJI_OF_OTHER_CATEGORIES = frozenset("\u2194\u2640\u2642")


def check_name(name: str) -> str:
    """Return `name` unchanged if it is valid.

    Raises:
        BadName: with the rule that the name breaks.
    """
    fault = name_fault(name)
    if fault:
        raise BadName(fault, name=name)
    return name


def name_fault(name: str) -> str:
    """Return the first rule that a name breaks, as text for a user; empty if it breaks none."""
    # A surrogate cannot be encoded; `component_fault` refuses it with its own message.
    if len(name.encode(errors="surrogatepass")) > NAME_BYTES_MAX:
        return f"the name is longer than {NAME_BYTES_MAX} bytes"
    components = name.split("/")
    if len(components) > COMPONENTS_MAX:
        return f"the name has more than {COMPONENTS_MAX} components"
    for component in components:
        fault = component_fault(component)
        if fault:
            return fault
    return ""


def component_fault(component: str) -> str:
    """Return the rule that one component of a name breaks, as text for a user; empty if it breaks none."""
    if _PLAIN.fullmatch(component) and not _DEVICE.match(component):
        return ""
    if not component:
        return "the name is empty, begins or ends with '/', or contains '//'"
    if _SURROGATE.search(component):
        return "the name is not valid UTF-8 (it contains a surrogate)"
    if len(component.encode()) > COMPONENT_BYTES_MAX:
        return f"a component of the name is longer than {COMPONENT_BYTES_MAX} bytes"
    if component[0] == ".":
        return "a component of the name begins with a dot (hidden files are not shared)"
    if component[-1] in ". ":
        return "a component of the name ends in a dot or a space (invalid on Windows)"
    for separator in "\\:/":
        if separator in component:
            return f"the name contains '{separator}' (invalid on Windows)"
    if _CONTROL.search(component):
        return "the name contains a control character"
    if _BIDI.search(component):
        return "the name contains a bidirectional control character, which reorders the text around it"
    if any(not _joins_emoji(component, hit.start()) for hit in _ZERO_WIDTH.finditer(component)):
        return "the name contains a zero-width (invisible) character"
    if _DEVICE.match(component):
        return "a component of the name is a reserved device name on Windows"
    return ""


def fold(name: str) -> str:
    """Return the key under which a peer stores a name; names with equal keys are one name.

    The key is the name after Unicode case folding and normalization to NFC.
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_pattern(text: str) -> bool:
    """Return whether text has a wildcard, `*` or `?`. A valid name may contain them too."""
    return "*" in text or "?" in text


def _joins_emoji(text: str, at: int) -> bool:
    """Return whether the zero-width character at index `at` is a joiner between two emoji."""
    before = text[:at].removesuffix(_EMOJI_STYLE)[-1:]
    return text[at] == _JOINER and _is_emoji(before) and _is_emoji(text[at + 1 : at + 2])


def _is_emoji(character: str) -> bool:
    """Return whether a character can stand before or after a joiner: an emoji, or a skin tone modifier."""
    if not character:
        return False
    tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return tone or character in _EMOJI_OF_OTHER_CATEGORIES or unicodedata.category(character) == "So"
