"""Renders the dashboard and caches it briefly, so that many viewers cost no more than one. Knows no HTTP."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tracker.dashboard import formatting
from tracker.dashboard.snapshot import FileList, Snapshot, list_files, take_snapshot
from tracker.models import SingleCopies
from tracker.service import Tracker

PARTS = ("summary", "network", "peers", "files", "errors", "placements", "activity")
# Seconds that a value is served before it is computed again.
TTL = 1.0
# Counting single-copy files visits the whole index, so its result is cached for longer.
SINGLE_COPY_TTL = 5.0
# Computing takes at most this share of the time: the TTL of a value that takes long to compute is extended.
MAX_RENDER_SHARE = 0.05
_MAX_SEARCHES = 64

T = TypeVar("T")


class TtlCache(Generic[T]):
    """A value that is computed on demand, and again after its TTL. Not safe to call from several threads at once."""

    def __init__(self, now: Callable[[], float], seconds: float, compute: Callable[[], T]) -> None:
        self._now = now
        self._seconds = seconds
        self._compute = compute
        self._expires = float("-inf")
        self._value: T | None = None

    def __call__(self) -> T:
        started = self._now()
        if self._value is None or started >= self._expires:
            self._value = self._compute()
            finished = self._now()
            self._expires = finished + max(self._seconds, (finished - started) / MAX_RENDER_SHARE)
        return self._value


@dataclass(frozen=True)
class PagePart:
    """One part of the page. Two parts with equal tags have equal HTML."""

    tag: str
    html: str


@dataclass(frozen=True)
class _Rendered:
    files: FileList
    parts: dict[str, PagePart]


class RenderCache:
    """The rendered dashboard. One thread computes at a time; the others wait and use its result."""

    def __init__(self, tracker: Tracker, now: Callable[[], float], version: str, ping_interval: float) -> None:
        self._tracker = tracker
        self._now = now
        self._lock = threading.Lock()
        self._single_copies: TtlCache[SingleCopies] = TtlCache(
            now, SINGLE_COPY_TTL, lambda: tracker.single_copies("", 0)
        )
        self._snapshot: TtlCache[Snapshot] = TtlCache(
            now, TTL, lambda: take_snapshot(tracker, self._single_copies(), version, ping_interval)
        )
        self._searches: OrderedDict[tuple[str, bool], TtlCache[_Rendered]] = OrderedDict()
        self._templates = _environment()

    def page(self, user: str, match: str, single_copy: bool) -> str:
        """Return the complete page as HTML, with ages as of now.

        It is what a browser without JavaScript shows, and any browser until its first poll.

        Args:
            match: pattern or part of a name; empty for all files.
            single_copy: list only files with one complete copy.
        """
        with self._lock:
            snapshot = self._snapshot()
            files = self._search(match, single_copy).files
        now = self._tracker.server_time()
        return self._render("home.html", snapshot=snapshot, files=files, now=now, user=user, root="")

    def parts(self, match: str, single_copy: bool) -> dict[str, PagePart]:
        """Return the parts of the page by name, without ages.

        The browser computes ages from its own clock, so a part changes only when its content does.
        """
        with self._lock:
            return self._search(match, single_copy).parts

    def login(self, root: str, message: str = "", user: str = "") -> str:
        """Return the login form, which contains nothing of the network.

        Args:
            root: relative path from the form's own address to the dashboard; empty if it is the same. The dashboard
                does not know its own path: a proxy may serve it below any.
            message: why the login before was refused.
            user: the name in that login.
        """
        return self._render("login.html", root=root, message=message, user=user)

    def server_time(self) -> float:
        """Return the tracker's clock in Unix seconds."""
        return self._tracker.server_time()

    def _search(self, match: str, single_copy: bool) -> _Rendered:
        key = (match, single_copy)
        if key not in self._searches:
            self._searches[key] = TtlCache(self._now, TTL, lambda: self._render_parts(match, single_copy))
            while len(self._searches) > _MAX_SEARCHES:
                self._searches.popitem(last=False)
        self._searches.move_to_end(key)
        return self._searches[key]()

    def _render_parts(self, match: str, single_copy: bool) -> _Rendered:
        snapshot = self._snapshot()
        files = list_files(self._tracker, snapshot, match, single_copy)
        parts = {}
        for name in PARTS:
            html = self._render(f"parts/{name}.html", snapshot=snapshot, files=files, now=None)
            parts[name] = PagePart(hashlib.blake2b(html.encode(), digest_size=8).hexdigest(), html)
        return _Rendered(files, parts)

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(**values)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for function in (
        formatting.size, formatting.rate, formatting.number, formatting.duration, formatting.ago, formatting.pluralise,
        formatting.truncated, formatting.url_quoted,
    ):  # fmt: skip
        environment.filters[function.__name__] = function
    environment.filters["utc"] = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return environment
