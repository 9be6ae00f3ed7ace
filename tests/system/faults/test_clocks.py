"""Calendars that are wrong, or jump: nothing expires that should not, for spans are measured by steady clocks."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pserver_pb2 as pb
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import live_tracker
from manual_clock import ManualUnixClock
from tracker.app_factory import SteadyClock

MIB = 1 << 20
HOUR = 3600.0
DAY = 24 * HOUR


def clock_ahead(ahead: float) -> Callable[[], float]:
    return lambda: time.time() + ahead


def fetch(peer: LivePserver, name: str) -> list[str]:
    """Download; return the codes of the faults."""
    with peer.control() as control:
        command = pb.DownloadCommand(names=[name])
        events = control.DownloadFileRequest(iter([command]), metadata=peer.cookie, timeout=60)
        return [fault.code for event in events for fault in event.results.faults]


def push(peer: LivePserver, path: Path) -> list[str]:
    """Upload; return the codes of the faults."""
    command = pb.UploadCommand(paths=[str(path)], copies=1)
    with peer.control() as control:
        events = control.UploadFileRequest(iter([command]), metadata=peer.cookie, timeout=60)
        return [fault.code for event in events for fault in event.results.faults]


def share(peer: LivePserver, name: str, content: bytes) -> None:
    peer.share(name, content)
    peer.call(peer.pserver.announcer.sync())


@pytest.mark.parametrize("ahead", [-DAY, DAY], ids=["a day behind", "a day ahead"])
def test_a_peer_with_a_wrong_clock_works_and_stays_logged_in(tmp_path: Path, rng: random.Random, ahead: float) -> None:
    contents = [rng.randbytes(2 * MIB) for _ in range(4)]
    with live_tracker(tmp_path / "tracker") as tracker, live_pserver(tmp_path / "ana", tracker, "ana") as ana:
        home = tmp_path / "ben"
        with live_pserver(home, tracker, "ben", wall_clock=clock_ahead(ahead)) as ben:
            share(ana, "a.bin", contents[0])
            share(ben, "b.bin", contents[1])
            assert fetch(ben, "a.bin") == []
            assert fetch(ana, "b.bin") == []
            (tmp_path / "c.bin").write_bytes(contents[2])
            assert push(ana, tmp_path / "c.bin") == []
            assert (ben.shared / "c.bin").read_bytes() == contents[2]
            # ben stops during a download.
            manifest = ana.share("d.bin", contents[3])
            with ben.pserver.part_store.open(manifest, "name") as part:
                part.store(0, [contents[3][: manifest.length(0)]])
        # Its clock is corrected before it starts again.
        with live_pserver(home, tracker) as ben:
            assert ben.pserver.account.user == "ben"
            assert (ben.shared / ".p2p" / f"{manifest.id}.have").exists()
            ana.call(ana.pserver.announcer.sync())
            assert fetch(ben, "d.bin") == []
            assert (ben.shared / "d.bin").read_bytes() == contents[3]
            (tmp_path / "e.bin").write_bytes(contents[0] + b"e")
            assert push(ana, tmp_path / "e.bin") == []


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "on"])
def test_a_clock_that_jumps_while_a_peer_runs_changes_nothing(tmp_path: Path, rng: random.Random, jump: float) -> None:
    clock = ManualUnixClock(time.time())
    truth = rng.randbytes(2 * MIB)
    with (
        live_tracker(tmp_path / "tracker") as tracker,
        live_pserver(tmp_path / "ana", tracker, "ana", wall_clock=clock) as ana,
        live_pserver(tmp_path / "ben", tracker, "ben") as ben,
    ):
        share(ana, "a.bin", truth)
        before = ana.pserver.account.clock.now()
        clock.now += jump
        assert abs(ana.pserver.account.clock.now() - before) < 60
        assert fetch(ben, "a.bin") == []
        assert (ben.shared / "a.bin").read_bytes() == truth
        share(ana, "b.bin", truth + b"b")
        assert fetch(ben, "b.bin") == []
        assert [peer.address for peer in ana.call(ana.pserver.tracker.peers())]


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "on"])
def test_a_tracker_whose_clock_jumps_drops_no_peer(tmp_path: Path, rng: random.Random, jump: float) -> None:
    """While it runs it does not read the wall clock; after a restart it does."""
    ahead = [0.0]
    state, truth = tmp_path / "tracker", rng.randbytes(2 * MIB)
    clock = SteadyClock(wall=lambda: time.time() + ahead[0])
    with live_tracker(state, clock=clock) as tracker:
        port = tracker.port
        ana_home, ben_home = tmp_path / "ana", tmp_path / "ben"
        with live_pserver(ana_home, tracker, "ana") as ana, live_pserver(ben_home, tracker, "ben") as ben:
            share(ana, "a.bin", truth)
            before = clock.server_time()
            ahead[0] = jump
            assert abs(clock.server_time() - before) < 60
            assert len(ana.call(ana.pserver.tracker.peers())) == 2
            assert fetch(ben, "a.bin") == []
    with live_pserver(ana_home, port) as ana, live_pserver(ben_home, port) as ben:
        # It restarts an hour off: no peer is logged out, and tickets are valid from the next ping on.
        restarted = SteadyClock(wall=lambda: time.time() + jump)
        with live_tracker(state, port=port, clock=restarted):
            eventually(lambda: not ana.pserver.announcer.fault and not ben.pserver.announcer.fault)
            assert (ana.pserver.account.user, ben.pserver.account.user) == ("ana", "ben")
            share(ana, "b.bin", truth + b"b")
            assert fetch(ben, "b.bin") == []
            assert (ben.shared / "b.bin").read_bytes() == truth + b"b"
