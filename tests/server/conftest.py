"""Fixtures: a tracker without a socket."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from live_tracker import CHEAP_HASHES
from tracker.app_factory import SteadyClock, TrackerParts, build
from tracker_fixture import MakeTracker, ManualClock, TrackerFixture


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeTracker]:
    made: list[TrackerParts] = []

    def make(clock: ManualClock | None = None, **settings: Any) -> TrackerFixture:
        clock = clock or ManualClock()
        given = {"cost": CHEAP_HASHES, "rng": Random(1), "clock": SteadyClock(clock, clock), **settings}
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        parts = build(state, **given)
        made.append(parts)
        return TrackerFixture(parts, clock)

    yield make
    for parts in made:
        parts.close()


@pytest.fixture
def world(make_world: MakeTracker) -> TrackerFixture:
    return make_world()
