"""When sessions were last used: written beside the requests, and enough to end only those that are not used."""

import threading
from collections.abc import Mapping

from eventually import eventually
from tracker.errors import DiskFull
from tracker.last_seen import LastSeenWriter
from tracker_fixture import MakeTracker, ManualClock

DAY = 86400.0


def test_times_are_written_without_being_waited_for() -> None:
    saved: dict[str, float] = {}
    writing, proceed = threading.Event(), threading.Event()

    def save(times: Mapping[str, float]) -> None:
        writing.set()
        assert proceed.wait(20)
        saved.update(times)

    writer = LastSeenWriter(save)
    writer.note("a", 1.0)
    assert writing.wait(20)
    writer.note("b", 2.0)
    assert saved == {}
    proceed.set()
    eventually(lambda: saved == {"a": 1.0, "b": 2.0})
    writer.close()


def test_times_that_could_not_be_written_are_written_later() -> None:
    attempts: list[dict[str, float]] = []

    def save(times: Mapping[str, float]) -> None:
        attempts.append(dict(times))
        if len(attempts) == 1:
            raise DiskFull("full")

    writer = LastSeenWriter(save)
    writer.note("a", 1.0)
    eventually(lambda: attempts)
    writer.note("a", 3.0)
    writer.note("b", 2.0)
    writer.close()
    assert attempts == [{"a": 1.0}, {"a": 3.0, "b": 2.0}]


def test_a_session_that_is_used_outlives_restarts_and_an_unused_one_does_not(make_world: MakeTracker) -> None:
    clock = ManualClock()
    world = make_world(clock)
    ana, ben = world.peer("ana", "127.0.0.1:5001"), world.peer("ben", "127.0.0.1:5002")
    for _ in range(3):
        clock.advance(20 * DAY)
        ana.ping()
        world.parts.close()
        world = ana.world = ben.world = make_world(clock)
    assert ana.call("GET", "/peers").status_code == 200
    assert ben.call("GET", "/peers").status_code == 401
