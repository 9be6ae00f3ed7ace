"""The format of log lines on stderr: text or JSON, always one line."""

import logging
import sys
from datetime import UTC, datetime

import orjson

# All line breaks of Unicode, and control characters that a terminal would interpret.
_ESCAPED = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}
_ESCAPED |= {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def one_line(text: str) -> str:
    """Escape line breaks and control characters."""
    return text.translate(_ESCAPED).encode(errors="backslashreplace").decode()


class HumanFormatter(logging.Formatter):
    """Lines for people, such as `2026-11-23T10:00:00Z INFO login user='ana'`."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return one_line(f"{when} {record.levelname} {_text(record)}")


class JsonFormatter(logging.Formatter):
    """A JSON object with time, level, logger, message, and the details of an event."""

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
    """Send all logs to stderr, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else HumanFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # granian logs every start, and warns that it is embedded: only its errors are wanted.
    logging.getLogger("_granian").setLevel(logging.ERROR)


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += " | " + logging.Formatter().formatException(record.exc_info)
    return text
