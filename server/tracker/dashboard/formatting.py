"""Numbers as text for the dashboard. Pure. page.js formats ages in the same way between two polls."""

from urllib.parse import quote

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(count: float) -> str:
    """Return a number of bytes with about three digits, for example `1.4 MiB`."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def rate(count: float) -> str:
    """Return bytes per second as text."""
    return f"{size(count)}/s"


def number(count: int) -> str:
    """Return a number with a narrow no-break space between thousands."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, rounded down."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def ago(seconds: float) -> str:
    """Return how long ago something was: `now` below two seconds."""
    return "now" if seconds < 2 else f"{duration(seconds)} ago"


def pluralise(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun; `many` is needed only where the plural is not `one` with an s."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def truncated(text: str, length: int) -> str:
    """Return the text, cut to at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def url_quoted(text: str) -> str:
    """Return the text as the value of a query parameter."""
    return quote(text, safe="")
