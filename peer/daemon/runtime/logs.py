"""The log of a pserver on stderr, one line for each event, as text or as JSON (LOG_FORMAT). It contains no secrets."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from common.printable import printable


class TextFormatter(logging.Formatter):
    """Formats `2026-11-23T10:00:00Z WARNING daemon.swarm.download: ...`. Text of a peer cannot start a new line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{moment} {record.levelname} {record.name}: {printable(record.getMessage())}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line: time (UTC), level, logger, message, and the traceback of an unexpected error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure(log_format: str) -> None:
    """Log to stderr; `log_format` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("asyncio", "grpc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It logs each retry. This program logs the failure.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
