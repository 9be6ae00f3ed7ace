"""Who is logged in changes as a whole or not at all, whoever goes away, and here as at the tracker."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from daemon.runtime.transfers import Transfer
from daemon.tracker_client.client import TrackerClient
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker


@pytest.fixture
def ben(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "ben", tracker, "ben") as live:
        yield live


def alive(ana: LivePserver) -> set[str]:
    """Who is alive, as another peer sees it."""
    return {peer.user for peer in ana.call(ana.pserver.tracker.peers())}


async def break_off(call: Coroutine[Any, Any, object], ben: LivePserver, at_user: str | None) -> None:
    """Cancel a call, as when a terminal goes away, once this user is logged in while it is under way."""
    under_way = asyncio.create_task(call)
    await asyncio.sleep(0)
    while ben.pserver.account.user != at_user:
        await asyncio.sleep(0)
    assert under_way.cancel()
    await asyncio.wait([under_way])


def test_a_logout_goes_on_when_its_terminal_is_gone(ben: LivePserver, ana: LivePserver) -> None:
    eventually(lambda: "ben" in alive(ana))
    ben.call(break_off(ben.pserver.account.logout(), ben, "ben"))
    eventually(lambda: ben.pserver.account.user is None)
    eventually(lambda: "ben" not in alive(ana))


def test_a_logout_of_which_the_tracker_hears_nothing_says_so(tmp_path: Path) -> None:
    with ExitStack() as tracker_there:
        tracker = tracker_there.enter_context(live_tracker(tmp_path / "tracker"))
        with live_pserver(tmp_path / "cleo", tracker, "cleo") as cleo, cleo.control() as control:
            tracker_there.close()
            reply = control.Logout(pb.LogoutRequest(), metadata=cleo.cookie, timeout=20)
            assert reply.user == "cleo" and "could not be told" in reply.notice
            assert not control.Logout(pb.LogoutRequest(), metadata=cleo.cookie, timeout=20).notice


def test_a_login_goes_on_when_its_terminal_is_gone(ben: LivePserver) -> None:
    ben.call(break_off(ben.pserver.account.login("benno", "correct horse"), ben, None))
    assert eventually(lambda: ben.pserver.account.user) == "benno"


def test_a_login_as_who_one_is_keeps_what_the_tracker_tells_once(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    with live_pserver(tmp_path / "rare", tracker, "rare", ping_interval=60) as rare:
        manifest = rare.share("spoilt.txt", b"good")
        eventually(lambda: [p for p in ana.call(ana.pserver.tracker.peers()) if p.user == "rare" and p.load.free_bytes])
        path = rare.shared / "spoilt.txt"
        before = path.stat()
        path.write_bytes(b"evil")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        # Somebody reports it: the next ping is asked to hash it again.
        tracker.parts.tracker._reports.report_corrupt("ana", rare.session()["peer_id"], bytes.fromhex(manifest.id))
        rare.login("rare")
        eventually(lambda: not rare.pserver.library.by_id(manifest.id))


def test_the_end_of_a_lost_session_is_not_that_of_the_next(ben: LivePserver, tracker: LiveTracker) -> None:
    account, jobs = ben.pserver.account, ben.pserver.transfers
    client = TrackerClient(tracker.url)
    client.token = ben.session()["token"]
    wound_down = asyncio.Event()

    async def stream() -> None:
        async with ben.pserver.transfer_service.active_streams.register():
            try:
                await wound_down.wait()
            finally:
                await wound_down.wait()

    async def work(_: Transfer) -> None:
        await wound_down.wait()

    async def lose_and_login() -> None:
        slow = asyncio.create_task(stream())
        client.logout()
        while account.user is not None:
            await asyncio.sleep(0)
        await account.login("ben", "correct horse")
        transfer = jobs.start("download", work)
        assert account._ending is not None
        await account._ending
        assert not transfer.finished
        wound_down.set()
        await asyncio.wait([slow])

    ben.call(lose_and_login())
