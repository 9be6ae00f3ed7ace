"""What the text of an env value means. Pure: a function returns a value or raises ValueError, and touches nothing."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_LONGEST_INTERVAL = 366 * 86_400.0
_MOST_BYTES = 1 << 62


def host(text: str) -> str:
    """A host name or an IP address; brackets around IPv6 are taken off."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    labels = bare.removesuffix(".").split(".")
    # A name whose last label is a number would be an address written wrongly: 256.1.1.1.
    if len(bare) > 253 or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(text)
    return bare


def port(text: str) -> int:
    """0 to 65535."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def size(text: str) -> int:
    """Bytes; K, M, G in either case are powers of 1024."""
    found = _SIZE.fullmatch(text)
    if not found or (number := float(found[1]) * _UNITS[found[2].upper()]) > _MOST_BYTES:
        raise ValueError(text)
    return int(found[1]) * _UNITS[found[2].upper()] if found[1].isdigit() else int(number)


def seconds(text: str) -> float:
    """More than 0 and at most a year."""
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= _LONGEST_INTERVAL or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def flag(text: str) -> bool:
    """True or false, as people write them."""
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """A reader of one of `choices`."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


def path(text: str, folder: Path) -> Path:
    """An absolute path; `~` is the user's home, anything relative counts from `folder`."""
    if "\0" in text:
        raise ValueError(text)
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(text) from error
