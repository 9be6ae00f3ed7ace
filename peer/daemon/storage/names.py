"""The pserver's only judge of names. Pure: a name is refused with the rule that it breaks, never rewritten.

A name is one or more components joined by "/", relative to the shared folder. Whatever passes here is safe to walk to
below a folder, on Linux, macOS and Windows alike, and to show to a person.
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
# Windows gives these to devices, whatever follows the first dot.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)", re.IGNORECASE | re.ASCII)
# Nearly all names: decided without looking at each rule.
_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_. -]{0,198}[A-Za-z0-9_-])?")

_JOINER = "\u200d"
_EMOJI_STYLE = "\ufe0f"
# Symbols that stand in emoji sequences and that Unicode does not put among "other symbols".
_EMOJI_TOO = frozenset("\u2194\u2640\u2642")


def check_name(name: str) -> str:
    """Return `name` if it is one.

    Raises:
        BadName: with the rule that it breaks.
    """
    # Surrogates have no bytes of their own; what they are is said below.
    if len(name.encode(errors="surrogatepass")) > NAME_BYTES_MAX:
        raise BadName(f"the name is longer than {NAME_BYTES_MAX} bytes", name=name)
    components = name.split("/")
    if len(components) > COMPONENTS_MAX:
        raise BadName(f"the name has more than {COMPONENTS_MAX} components", name=name)
    for component in components:
        fault = component_fault(component)
        if fault:
            raise BadName(fault, name=name)
    return name


def component_fault(component: str) -> str:
    """Return the rule that one component of a name breaks; empty if none."""
    if _PLAIN.fullmatch(component) and not _DEVICE.match(component):
        return ""
    if not component:
        return "the name is empty, begins or ends with /, or has two of them together"
    if _SURROGATE.search(component):
        return "the name contains a surrogate: it is not valid UTF-8"
    if len(component.encode()) > COMPONENT_BYTES_MAX:
        return f"a component of the name is longer than {COMPONENT_BYTES_MAX} bytes"
    if component[0] == ".":
        return "a component of the name begins with a dot"
    if component[-1] in ". ":
        return "a component of the name ends in a dot or space"
    for separator in "\\:/":
        if separator in component:
            return f"the name contains '{separator}', which separates folders or drives elsewhere"
    if _CONTROL.search(component):
        return "the name contains a control character"
    if _BIDI.search(component):
        return "the name contains a bidirectional control, which changes the direction of text"
    if any(not _joins_emoji(component, hit.start()) for hit in _ZERO_WIDTH.finditer(component)):
        return "the name contains a zero-width character, which cannot be seen"
    if _DEVICE.match(component):
        return "a component of the name is reserved: Windows calls a device so"
    return ""


def fold(name: str) -> str:
    """Return what two names have in common if they are one name at one peer: equal after NFC and case folding."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_pattern(text: str) -> bool:
    """Tell whether text stands for all names that match it: a name may hold `*` and `?` too, and then it is both."""
    return "*" in text or "?" in text


def _joins_emoji(text: str, at: int) -> bool:
    """Tell whether the character at `at` is a joiner between two emoji."""
    before = text[:at].removesuffix(_EMOJI_STYLE)[-1:]
    return text[at] == _JOINER and _is_emoji(before) and _is_emoji(text[at + 1 : at + 2])


def _is_emoji(character: str) -> bool:
    if not character:
        return False
    # A skin tone stands between an emoji and the joiner.
    tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return tone or character in _EMOJI_TOO or unicodedata.category(character) == "So"
