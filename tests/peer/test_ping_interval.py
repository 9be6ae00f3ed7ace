"""A peer pings as often as the tracker asks for, or more often if PING_INTERVAL says so, and never less often."""

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from daemon.tracker_client.ping_interval import DEFAULT_SECONDS, PingInterval
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker


@contextmanager
def counted_pings(tracker: LiveTracker) -> Iterator[list[None]]:
    """Count the pings that the tracker gets."""
    views, pings = tracker.parts.app.view_functions, list[None]()
    ping = views["ping"]

    def counting(*arguments: Any, **keywords: Any) -> Any:
        pings.append(None)
        return ping(*arguments, **keywords)

    views["ping"] = counting
    yield pings


def faults(live: LivePserver) -> list[str]:
    with live.control() as control:
        return list(control.Status(pb.StatusRequest(), metadata=live.cookie, timeout=10).faults)


@pytest.mark.parametrize(
    ("wanted", "asked", "seconds"), [(None, None, DEFAULT_SECONDS), (None, 3, 3), (60, 3, 3), (2, 3, 2), (60, None, 60)]
)
def test_the_shorter_of_the_two_intervals_counts(wanted: float | None, asked: float | None, seconds: float) -> None:
    interval = PingInterval(wanted)
    interval.learn(asked)
    assert interval.seconds == seconds


@pytest.mark.parametrize("asked", [0, -1, math.nan, math.inf, -math.inf])
def test_what_is_no_interval_is_ignored(asked: float) -> None:
    interval = PingInterval(None)
    interval.learn(7)
    interval.learn(asked)
    assert interval.seconds == 7


def test_a_tracker_cannot_make_a_peer_ping_without_a_pause() -> None:
    interval = PingInterval(None)
    interval.learn(1e-9)
    assert interval.seconds >= 0.1


@pytest.mark.parametrize(("asked", "timeout"), [(0.4, 1), (4, 2), (10, 5), (3600, 5)])
def test_a_ping_ends_before_the_next_but_one_is_due(asked: float, timeout: float) -> None:
    interval = PingInterval(None)
    interval.learn(asked)
    assert interval.timeout == timeout


def test_a_failed_ping_is_repeated_soon_also_if_the_interval_is_long() -> None:
    interval = PingInterval(None)
    interval.learn(3600)
    assert interval.retry_seconds == 10


def test_a_longer_setting_is_cut_with_one_warning_and_a_line_in_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        live_tracker(tmp_path / "tracker", ping_timeout=2.5) as tracker,
        counted_pings(tracker) as pings,
        live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=3600) as ana,
    ):
        eventually(lambda: len(pings) >= 3)
        line = "PING_INTERVAL is 3600 s, but the tracker asks for a ping every 1 s: pinging every 1 s"
        assert faults(ana) == [line]
        assert [record.levelno for record in caplog.records if record.message == line] == [logging.WARNING]


def test_without_a_setting_the_peer_pings_as_the_tracker_asks(tmp_path: Path) -> None:
    with (
        live_tracker(tmp_path / "tracker", ping_timeout=2.5) as tracker,
        counted_pings(tracker) as pings,
        live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=None) as ana,
    ):
        eventually(lambda: len(pings) >= 3)
        assert faults(ana) == []


def test_a_restarted_tracker_may_ask_for_another_interval(tmp_path: Path, stack: ExitStack) -> None:
    with ExitStack() as first:
        tracker = first.enter_context(live_tracker(tmp_path / "tracker", ping_timeout=250))
        ana = stack.enter_context(live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=0.3))
        eventually(lambda: ana.pserver.account.user)
        assert ana.session()["ping_interval"] == 100
    with live_tracker(tmp_path / "tracker", port=tracker.port, ping_timeout=0.5):
        eventually(lambda: "asks for a ping every 0.2 s" in "".join(faults(ana)))


def test_the_interval_is_known_again_after_a_restart_of_the_pserver(tmp_path: Path) -> None:
    """Before the tracker answers: a peer that is back before its tracker pings as it must."""
    with live_tracker(tmp_path / "tracker", ping_timeout=5) as tracker:
        with live_pserver(tmp_path / "ana", tracker, "ana", ping_interval=3600) as ana:
            assert faults(ana)
        port = tracker.port
    with live_pserver(tmp_path / "ana", port, ping_interval=3600) as ana:
        assert any("every 2 s" in line for line in faults(ana))
