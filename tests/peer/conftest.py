"""A real tracker and a real pserver, shared by the tests of one module that do them no lasting harm."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.storage.manifest import Manifest
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def tracker(folder: Path) -> Iterator[LiveTracker]:
    with live_tracker(folder / "tracker") as live:
        yield live


@pytest.fixture(scope="module")
def ana(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer that is logged in."""
    with live_pserver(folder / "ana", tracker, "ana") as live:
        yield live


@pytest.fixture(scope="module")
def film(ana: LivePserver) -> Manifest:
    """A file of 20 pieces that ana has."""
    return ana.share("film.bin", os.urandom(20 << 20))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opens; it is closed after the test."""
    with ExitStack() as stack:
        yield stack
