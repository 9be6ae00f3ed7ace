"""What `status` says of the tracker is true, whoever is logged in: no older than a ping, or the last call to it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

import pserver_pb2 as pb
from daemon.errors import LoginRefused, TrackerUnreachable
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker


def status(live: LivePserver) -> pb.StatusResponse:
    with live.control() as control:
        return control.Status(pb.StatusRequest(), metadata=live.cookie, timeout=10)


def shown(live: LivePserver) -> float | None:
    """The gauge that a scrape would show."""
    return live.pserver.metrics._registry.get_sample_value("p2p_tracker_reached")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[ExitStack]:
    """What the tracker is there with; closed, it is gone."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def tracker(tmp_path: Path, there: ExitStack) -> LiveTracker:
    return there.enter_context(live_tracker(tmp_path / "tracker"))


def test_a_tracker_that_goes_and_comes_while_nobody_is_logged_in(
    tmp_path: Path, there: ExitStack, tracker: LiveTracker
) -> None:
    with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=0.2, metrics_port=0) as ana:
        ana.call(ana.pserver.account.logout())
        assert status(ana).tracker_reached
        assert shown(ana) == 1

        there.close()
        eventually(lambda: not status(ana).tracker_reached)
        assert "is it running" in status(ana).tracker_fault
        assert shown(ana) == 0

        with live_tracker(tmp_path / "tracker", port=tracker.port):
            eventually(lambda: status(ana).tracker_reached)
            assert not status(ana).tracker_fault
            assert shown(ana) == 1


def test_a_tracker_is_looked_at_before_anybody_logs_in(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, ping_interval=60) as ana:
        eventually(lambda: status(ana).tracker_reached)
        assert not status(ana).user


def test_every_call_tells_whether_it_answers(tmp_path: Path, there: ExitStack, tracker: LiveTracker) -> None:
    # No ping comes, and no look.
    with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=3600) as ana:
        ana.call(ana.pserver.account.logout())
        there.close()
        with pytest.raises(TrackerUnreachable):
            ana.login("ana")
        assert not status(ana).tracker_reached

        with live_tracker(tmp_path / "tracker", port=tracker.port):
            with pytest.raises(LoginRefused):
                ana.login("ana", "the wrong one")
            assert status(ana).tracker_reached


def test_an_index_that_the_tracker_refuses_is_told_until_it_takes_it(tmp_path: Path, tracker: LiveTracker) -> None:
    views = tracker.parts.app.view_functions
    put_index = views["put_index"]

    def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    views["put_index"] = broken
    with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=0.2) as ana:
        eventually(lambda: "refused" in status(ana).tracker_fault)
        views["put_index"] = put_index
        eventually(lambda: status(ana).tracker_reached)
