"""Requests run in pools: a slow one in a pool does not delay requests in another."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from live_tracker import LiveTracker, live_tracker
from tracker.memory_index import MemoryIndex

SEARCHES = ("/files", "/page/snapshot")


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[LiveTracker]:
    with live_tracker(tmp_path) as live:
        yield live


@pytest.mark.parametrize("path", SEARCHES)
def test_a_flood_of_searches_does_not_delay_announces(
    tracker: LiveTracker, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    over = threading.Event()

    def search(*_: Any) -> Any:
        over.wait(60)
        return [], None

    monkeypatch.setattr(MemoryIndex, "page", search)
    user = {"username": "ana", "password": "x"}
    token = requests.post(f"{tracker.url}/login", json={**user, "url": "127.0.0.1:5001"}, timeout=5).json()["token"]
    browser = requests.post(f"{tracker.url}/page/login", data=user, timeout=5, allow_redirects=False).cookies
    who: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}, "cookies": browser, "timeout": 30}
    floods = [threading.Thread(target=requests.get, args=(tracker.url + path,), kwargs=who) for _ in range(12)]
    try:
        for flood in floods:
            flood.start()
        for _ in range(20):
            files = {"version": "1", "files": []}
            assert requests.put(f"{tracker.url}/index", json=files, **{**who, "timeout": 15}).status_code == 200
    finally:
        over.set()
        for flood in floods:
            flood.join()


@pytest.mark.parametrize("path", ["/", "/files", "/query", "/healthz"])
def test_head_and_get_use_the_same_pool(tracker: LiveTracker, path: str) -> None:
    assert tracker.parts.pool("HEAD", path) is tracker.parts.pool("GET", path)
