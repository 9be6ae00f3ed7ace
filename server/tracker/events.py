"""Reports each event of the tracker: a log line, a metric, and a call of each listener. No rules."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from tracker.names import printable

log = logging.getLogger("tracker")


class EventCounter(Protocol):
    """What counts events: tracker.metrics."""

    def count_event(self, event: str) -> None:
        """Count one event of this kind."""


class Events:
    """Reports events. There is one call for log, metrics and listeners, so that none of them is forgotten."""

    def __init__(self, counts: EventCounter, *listeners: Callable[[str, Mapping[str, object]], None]) -> None:
        self._counts = counts
        self._listeners = listeners

    def __call__(self, event: str, level: int = logging.INFO, **details: object) -> None:
        """Report an event.

        Args:
            event: its kind, one of tracker.metrics.EVENTS.
            level: level of the log line.
            details: shown in the log line; strings are made printable.
        """
        self._counts.count_event(event)
        for listener in self._listeners:
            listener(event, details)
        if log.isEnabledFor(level):
            shown = {key: printable(value) if isinstance(value, str) else value for key, value in details.items()}
            text = " ".join(f"{key}={value}" for key, value in shown.items())
            log.log(level, "%s %s", event, text, extra={"event": event, "details": details})
