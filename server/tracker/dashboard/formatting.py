"""Numbers as people read them. Pure. page.js has the same words for ages, so that they go on between two polls."""

from urllib.parse import quote

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: float) -> str:
    """Bytes, in three digits or so."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def rate(count: float) -> str:
    """Bytes per second."""
    return f"{size(count)}/s"


def number(count: int) -> str:
    """Thousands apart, by a space that does not break."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """A length of time, in its largest unit."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def ago(seconds: float) -> str:
    """How long since."""
    return "now" if seconds < 2 else f"{duration(seconds)} ago"


def pluralise(count: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def truncated(text: str, length: int) -> str:
    """The text, cut to a length."""
    return text if len(text) <= length else text[: length - 1] + "…"


def url_quoted(text: str) -> str:
    """The text as part of an address."""
    return quote(text, safe="")
