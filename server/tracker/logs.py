"""How log lines look: one line each, whatever is in them, to stderr; for people, or as JSON."""

import logging
import sys
from datetime import UTC, datetime

import orjson

# Line breaks of every alphabet, and what moves a terminal's cursor.
_ESCAPED = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}
_ESCAPED |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def one_line(text: str) -> str:
    """The text on one line, with nothing in it that a terminal would obey."""
    return text.translate(_ESCAPED).encode(errors="backslashreplace").decode()


class HumanFormatter(logging.Formatter):
    """`2026-11-23T10:00:00Z INFO login user='ana'`."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return one_line(f"{when} {record.levelname} {_text(record)}")


class JsonFormatter(logging.Formatter):
    """The same as an object: time, level, logger, message, and an event's details."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(_text(record)),
        }
        event = getattr(record, "event", None)
        if event is not None:
            details: dict[str, object] = getattr(record, "details", {})
            shown = {key: one_line(v) if isinstance(v, str) else v for key, v in details.items()}
            line |= {"event": event, "details": shown}
        return orjson.dumps(line, default=str).decode()


def configure_logging(log_format: str) -> None:
    """Send all logs to stderr. Called by the launcher, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else HumanFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # granian tells of its own doings; of those only trouble is worth a line, and that it is embedded is no trouble.
    logging.getLogger("_granian").setLevel(logging.ERROR)


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += " | " + logging.Formatter().formatException(record.exc_info)
    return text
