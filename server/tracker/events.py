"""What the tracker tells of its doings: a line in the log for each, a count, and word to who listens. No rules."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from tracker.names import printable

log = logging.getLogger("tracker")


class EventCounter(Protocol):
    """Where events are counted (tracker.metrics)."""

    def count_event(self, event: str) -> None: ...


class Events:
    """One method, so that an event is never logged and forgotten in the figures, or the other way round."""

    def __init__(self, counts: EventCounter, *listeners: Callable[[str, Mapping[str, object]], None]) -> None:
        self._counts = counts
        self._listeners = listeners

    def __call__(self, event: str, level: int = logging.INFO, **details: object) -> None:
        """Tell an event; details from outside are made printable."""
        self._counts.count_event(event)
        for listener in self._listeners:
            listener(event, details)
        if log.isEnabledFor(level):
            told = {key: printable(value) if isinstance(value, str) else value for key, value in details.items()}
            text = " ".join(f"{key}={value}" for key, value in told.items())
            log.log(level, "%s %s", event, text, extra={"event": event, "details": details})
