"""SERVER_URL of a pserver: the address of the tracker, as a URL. Pure: resolves and dials nothing."""

from __future__ import annotations

import re

from common.env_file import parse_host

SHOULD_BE = "a host, host:port or http(s)://host[:port][/path]"
SHOULD_BE_ONE = "one address; a list is not supported"
_SCHEME = re.compile(r"(https?)://", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The characters of a path (RFC 3986, 3.3).
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+;=:@%-]*)*")


class SeveralAddresses(ValueError):
    """The text names several trackers."""


def tracker_url(text: str, port: int, *, tls: bool) -> str:
    """Return the URL that the tracker's routes are below, without a slash at its end.

    Args:
        text: SERVER_URL. With a scheme, the scheme decides on TLS, and the default port is the scheme's.
        port: SERVER_PORT, for an entry without scheme and port.
        tls: Whether to use TLS for an entry without a scheme.

    Raises:
        SeveralAddresses: The text is a list.
        ValueError: It is not an address.
    """
    if "," in text:
        raise SeveralAddresses(text)
    found = _SCHEME.match(text)
    if found is None:
        host, own_port = _split(text)
        return f"http{'s' if tls else ''}://{host}:{own_port or port}"
    scheme = found[1].lower()
    place, slash, path = text[found.end() :].partition("/")
    # In a URL an IPv6 address has brackets: ::1:5000 is an address without a port.
    if not _PATH.fullmatch(slash + path) or (place.count(":") > 1 and not place.startswith("[")):
        raise ValueError(text)
    host, own_port = _split(place)
    return f"{scheme}://{host}:{own_port or _DEFAULT_PORTS[scheme]}{(slash + path).rstrip('/')}"


def shown(url: str) -> str:
    """Return the tracker's address for users: `host:port`, and the path if there is one."""
    return _SCHEME.sub("", url, count=1)


def _split(text: str) -> tuple[str, int | None]:
    """Return the host, an IPv6 address in brackets, and the port if there is one."""
    try:
        host, port = parse_host(text), None
    except ValueError:
        before, colon, digits = text.rpartition(":")
        # Without brackets, a part of a mistyped IPv6 address would be its port.
        if ":" in before and not before.endswith("]"):
            raise
        if not (colon and digits.isascii() and digits.isdigit() and 0 < int(digits) <= 65535):
            raise
        host, port = parse_host(before), int(digits)
    return f"[{host}]" if ":" in host else host, port
