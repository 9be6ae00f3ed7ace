"""Metrics for Prometheus, in a registry of their own. Labels never have names or addresses."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tracker.models import Totals

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EVENTS = (
    "registered",
    "login",
    "login_refused",
    "login_delayed",
    "unknown_user",
    "logout",
    "left",
    "moved",
    "expired",
    "reindexed",
    "placed",
    "reported",
    "password_changed",
    "password_refused",
    "failed",
)


class Metrics:
    """Counters of events and requests, and gauges that are read at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        events = Counter("tracker_events", "Events", ["event"], registry=self.registry)
        self._events = {event: events.labels(event) for event in EVENTS}
        self._requests = Counter(
            "tracker_requests", "Requests with a response", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "tracker_request_seconds",
            "Time until the response",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # A lookup by labels costs more than the count itself.
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._second_children: dict[tuple[str, str], Histogram] = {}

    def register_gauges(self, totals: Callable[[], Totals], uptime: Callable[[], float]) -> None:
        """Register gauges that call `totals`, and `uptime` in seconds, at each scrape."""
        for field, text in (
            ("peers", "Online peers"),
            ("files", "Different ids"),
            ("names", "Versions of names: pairs of name and id"),
            ("entries", "Pairs of id and holder"),
        ):
            gauge = Gauge(f"tracker_{field}", text, registry=self.registry)
            gauge.set_function(lambda field=field: float(getattr(totals(), field)))  # type: ignore[misc]
        Gauge("tracker_uptime_seconds", "Seconds since the start", registry=self.registry).set_function(uptime)

    def count_event(self, event: str) -> None:
        """Count an event of EVENTS."""
        self._events[event].inc()

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request and its time in seconds; `route` is the path in tracker.routes, never the requested path."""
        counter = self._request_children.get((method, route, status))
        if counter is None:
            counter = self._request_children[method, route, status] = self._requests.labels(method, route, status)
        counter.inc()
        histogram = self._second_children.get((method, route))
        if histogram is None:
            histogram = self._second_children[method, route] = self._seconds.labels(method, route)
        histogram.observe(seconds)

    def exposition(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self.registry)
