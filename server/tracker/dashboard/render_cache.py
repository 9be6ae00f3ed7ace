"""Keeps what the page shows for a moment, so that many viewers cost no more than one; renders it. No HTTP."""

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

PARTS = ("summary", "network", "peers", "files", "failures", "placed", "lately")
TTL = 1.0
# Walking all contents is kept for longer.
SINGLE_COPY_TTL = 5.0
# However long gathering takes, it takes at most this share of the time.
MAX_RENDER_SHARE = 0.05
_MAX_SEARCHES = 64

T = TypeVar("T")


class TtlCache(Generic[T]):
    """A value made when asked for, and again when it is stale."""

    def __init__(self, now: Callable[[], float], seconds: float, make: Callable[[], T]) -> None:
        self._now = now
        self._seconds = seconds
        self._make = make
        self._until = float("-inf")
        self._value: T | None = None

    def __call__(self) -> T:
        began = self._now()
        if self._value is None or began >= self._until:
            self._value = self._make()
            ended = self._now()
            self._until = ended + max(self._seconds, (ended - began) / MAX_RENDER_SHARE)
        return self._value


@dataclass(frozen=True)
class PagePart:
    """A part of the page, and a tag that differs when the part does."""

    tag: str
    html: str


class RenderCache:
    """The page's contents. One viewer at a time has them made; the others find them made."""

    def __init__(self, tracker: Tracker, now: Callable[[], float], version: str, ping_interval: float) -> None:
        self._tracker = tracker
        self._now = now
        self._lock = threading.Lock()
        self._scarce: TtlCache[SingleCopies] = TtlCache(now, SINGLE_COPY_TTL, lambda: tracker.single_copies("", 0))
        self._snapshot: TtlCache[Snapshot] = TtlCache(
            now, TTL, lambda: take_snapshot(tracker, self._scarce(), version, ping_interval)
        )
        self._files: OrderedDict[tuple[str, bool], TtlCache[tuple[FileList, dict[str, PagePart]]]] = OrderedDict()
        self._templates = _environment()

    def page(self, user: str, match: str, single_copy: bool) -> str:
        """The whole page, with ages as of now: for browsers without the script, and until its first word."""
        with self._lock:
            snapshot = self._snapshot()
            files, _ = self._cached_list(match, single_copy)()
        return self._render("home.html", snapshot=snapshot, files=files, now=self._tracker.server_time(), user=user)

    def parts(self, match: str, single_copy: bool) -> dict[str, PagePart]:
        """The parts of the page by name; ages are left to the reader's clock, so what has not changed is the same."""
        with self._lock:
            return self._cached_list(match, single_copy)()[1]

    def login(self, message: str = "", user: str = "") -> str:
        """The form for strangers: nothing of the network is in it."""
        return self._render("login.html", message=message, user=user)

    def server_time(self) -> float:
        return self._tracker.server_time()

    def _cached_list(self, match: str, single_copy: bool) -> TtlCache[tuple[FileList, dict[str, PagePart]]]:
        kept = self._files.get((match, single_copy))
        if kept is None:
            kept = self._files[match, single_copy] = TtlCache(
                self._now, TTL, lambda: self._render_parts(match, single_copy)
            )
            while len(self._files) > _MAX_SEARCHES:
                self._files.popitem(last=False)
        self._files.move_to_end((match, single_copy))
        return kept

    def _render_parts(self, match: str, single_copy: bool) -> tuple[FileList, dict[str, PagePart]]:
        snapshot = self._snapshot()
        files = list_files(self._tracker, snapshot, match, single_copy)
        parts = {}
        for name in PARTS:
            html = self._render(f"parts/{name}.html", snapshot=snapshot, files=files, now=None)
            parts[name] = PagePart(hashlib.blake2b(html.encode(), digest_size=8).hexdigest(), html)
        return files, parts

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(**values)


def _environment() -> Environment:
    # Everything is escaped, whatever the template's name.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for word in (
        formatting.size, formatting.rate, formatting.number, formatting.duration, formatting.ago, formatting.pluralise,
        formatting.truncated, formatting.url_quoted,
    ):  # fmt: skip
        environment.filters[word.__name__] = word
    environment.filters["utc"] = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return environment
