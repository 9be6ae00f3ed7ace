"""Figures for Prometheus, in a registry of the application's own. No names and no addresses in labels."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tracker.models import Totals

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EVENTS = (
    "registered",
    "login",
    "login_refused",
    "login_delayed",
    "logout",
    "left",
    "expired",
    "reindexed",
    "placed",
    "reported",
    "password_changed",
    "password_refused",
    "failed",
)


class Metrics:
    """What is counted as it happens, and what is asked for when somebody looks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        events = Counter("tracker_events", "Things that happened", ["event"], registry=self.registry)
        self._events = {event: events.labels(event) for event in EVENTS}
        self._requests = Counter(
            "tracker_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "tracker_request_seconds", "Time to answer", ["method", "route"], buckets=_BUCKETS, registry=self.registry
        )
        # Looking a child up by its labels costs more than counting.
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._second_children: dict[tuple[str, str], Histogram] = {}

    def register_gauges(self, totals: Callable[[], Totals], uptime: Callable[[], float]) -> None:
        """Show how much there is whenever somebody looks."""
        for field, text in (
            ("peers", "Peers alive"),
            ("files", "Different contents held"),
            ("names", "Versions of names: pairs of a name and contents"),
            ("entries", "Pairs of contents and holder"),
        ):
            gauge = Gauge(f"tracker_{field}", text, registry=self.registry)
            gauge.set_function(lambda field=field: float(getattr(totals(), field)))  # type: ignore[misc]
        Gauge("tracker_uptime_seconds", "Time since the start", registry=self.registry).set_function(uptime)

    def count_event(self, event: str) -> None:
        """An event happened."""
        self._events[event].inc()

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the rule, never the path that was asked for."""
        counter = self._request_children.get((method, route, status))
        if counter is None:
            counter = self._request_children[method, route, status] = self._requests.labels(method, route, status)
        counter.inc()
        histogram = self._second_children.get((method, route))
        if histogram is None:
            histogram = self._second_children[method, route] = self._seconds.labels(method, route)
        histogram.observe(seconds)

    def exposition(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
