"""The real tracker on a real port, in a thread, for tests of its clients."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.app_factory import TrackerParts, build
from tracker.http_server import TlsFiles, listen, serve
from tracker.login_throttle import LoginLimits
from tracker.passwords import HashCost
from tracker.wsgi_bridge import WsgiBridge

# A hash in a fraction of a millisecond, and no delays after wrong passwords.
CHEAP_HASHES = HashCost(n=16, r=1, p=1)
LENIENT_LIMITS = LoginLimits(free_failures=1000, burst=1000)


@dataclass(frozen=True)
class LiveTracker:
    """The address of a running tracker, and its parts for inspection."""

    host: str
    port: int
    parts: TrackerParts
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@contextmanager
def live_tracker(
    state_dir: Path, *, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None, **settings: Any
) -> Iterator[LiveTracker]:
    """Serve until the block ends; `settings` are arguments of tracker.app_factory.build.

    To restart it without its index, leave the block and enter another one with the same state folder and port.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    parts = build(state_dir, **{"cost": CHEAP_HASHES, "limits": LENIENT_LIMITS, **settings})
    listeners = listen(host, port)
    bound = listeners[0].getsockname()[1]
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        bridge = WsgiBridge(parts.app, parts.body_limit, parts.pool, parts.source_of)

        def ready() -> None:
            started.set_result((asyncio.get_running_loop(), stop))

        await serve(bridge, listeners, tls, ready, stop)
        bridge.close()

    def in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=in_thread, name="live-tracker", daemon=True)
    thread.start()
    loop, stop = started.result(timeout=20)
    try:
        yield LiveTracker(host, bound, parts, "https" if tls else "http")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=20)
        parts.close()
