"""Status reports whether the tracker can be reached, logged in or not: as of the last request or ping."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import requests

import pserver_pb2 as pb
from daemon.errors import LoginRefused, TrackerUnreachable
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker

# So long that the tracker asks for no ping while a test runs.
LONG = 86_400.0


def status(live: LivePserver) -> pb.StatusResponse:
    with live.control() as control:
        return control.Status(pb.StatusRequest(), metadata=live.cookie, timeout=10)


@contextmanager
def scraping(live: LivePserver) -> Iterator[Callable[[], float]]:
    """A function that returns the gauge, as Prometheus reads it."""
    port, stop = live.pserver.metrics.serve(0)

    def gauge() -> float:
        lines = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("p2p_tracker_reached "))

    yield gauge
    stop()


@pytest.fixture
def tracker_stack(tmp_path: Path) -> Iterator[ExitStack]:
    """Runs the tracker; closing it stops the tracker."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def tracker(tmp_path: Path, tracker_stack: ExitStack) -> LiveTracker:
    return tracker_stack.enter_context(live_tracker(tmp_path / "tracker", ping_timeout=LONG))


def test_a_tracker_that_stops_and_restarts_is_noticed_while_logged_out(
    tmp_path: Path, tracker_stack: ExitStack, tracker: LiveTracker
) -> None:
    with (
        live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=0.2, metrics_port=0) as ana,
        scraping(ana) as gauge,
    ):
        ana.call(ana.pserver.account.logout())
        assert status(ana).tracker_reached
        assert gauge() == 1

        tracker_stack.close()
        eventually(lambda: not status(ana).tracker_reached)
        assert "check that it runs" in status(ana).tracker_fault
        assert gauge() == 0

        with live_tracker(tmp_path / "tracker", port=tracker.port, ping_timeout=LONG):
            eventually(lambda: status(ana).tracker_reached)
            assert not status(ana).tracker_fault
            assert gauge() == 1


def test_the_tracker_is_probed_before_the_first_login(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, ping_interval=60) as ana:
        eventually(lambda: status(ana).tracker_reached)
        assert not status(ana).user


def test_each_request_updates_whether_the_tracker_is_reached(
    tmp_path: Path, tracker_stack: ExitStack, tracker: LiveTracker
) -> None:
    # Neither a ping nor a probe is due.
    with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=3600) as ana:
        ana.call(ana.pserver.account.logout())
        tracker_stack.close()
        with pytest.raises(TrackerUnreachable):
            ana.login("ana")
        assert not status(ana).tracker_reached

        with live_tracker(tmp_path / "tracker", port=tracker.port, ping_timeout=LONG):
            with pytest.raises(LoginRefused):
                ana.login("ana", "the wrong one")
            assert status(ana).tracker_reached


def test_a_refused_index_is_a_fault_until_the_tracker_accepts_it(tmp_path: Path, tracker: LiveTracker) -> None:
    views = tracker.parts.app.view_functions
    put_index = views["put_index"]

    def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError

    views["put_index"] = broken
    with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=0.2) as ana:
        eventually(lambda: "refused" in status(ana).tracker_fault)
        views["put_index"] = put_index
        eventually(lambda: status(ana).tracker_reached)
