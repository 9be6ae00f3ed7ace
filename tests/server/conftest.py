"""A tracker without a socket for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from live_tracker import CHEAP
from tracker.app_factory import Parts, build
from tracker.clock import SteadyClock
from tracker_fixture import MakeWorld, ManualClock, World


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[Parts] = []

    def make(clock: ManualClock | None = None, **settings: Any) -> World:
        clock = clock or ManualClock()
        given = {"cost": CHEAP, "rng": Random(1), "clock": SteadyClock(clock, clock), **settings}
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        parts = build(state, **given)
        made.append(parts)
        return World(parts, clock)

    yield make
    for parts in made:
        parts.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()
