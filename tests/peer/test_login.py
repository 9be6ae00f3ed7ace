"""A login or logout completes here and at the tracker, or changes nothing, even if its pclient goes away."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.errors import LoginRefused, TrackerUnreachable
from daemon.runtime.transfers import Transfer
from eventually import eventually
from live_pserver import LivePserver, code_of, live_pserver
from live_tracker import LiveTracker, live_tracker
from tracker_requests import PASSWORD, with_token


@pytest.fixture
def ben(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "ben", tracker, "ben") as live:
        yield live


def online(ana: LivePserver) -> set[str]:
    """The online users, as another peer sees them."""
    return {peer.user for peer in ana.call(ana.pserver.tracker.peers())}


async def cancel_when(call: Coroutine[Any, Any, object], ben: LivePserver, at_user: str | None) -> None:
    """Run a call, and cancel it once `at_user` is logged in, as when its pclient goes away."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    while ben.pserver.account.user != at_user:
        await asyncio.sleep(0)
    assert task.cancel()
    await asyncio.wait([task])


def test_a_logout_completes_without_its_pclient(ben: LivePserver, ana: LivePserver) -> None:
    eventually(lambda: "ben" in online(ana))
    ben.call(cancel_when(ben.pserver.account.logout(), ben, "ben"))
    eventually(lambda: ben.pserver.account.user is None)
    eventually(lambda: "ben" not in online(ana))


def test_a_logout_without_the_tracker_says_so(tmp_path: Path) -> None:
    with ExitStack() as tracker_stack:
        tracker = tracker_stack.enter_context(live_tracker(tmp_path / "tracker"))
        with live_pserver(tmp_path / "cleo", tracker, "cleo") as cleo, cleo.control() as control:
            tracker_stack.close()
            reply = control.Logout(pb.LogoutRequest(), metadata=cleo.cookie, timeout=20)
            assert reply.user == "cleo" and "the tracker is unreachable" in reply.notice
            assert not control.Logout(pb.LogoutRequest(), metadata=cleo.cookie, timeout=20).notice


def test_a_login_completes_without_its_pclient(ben: LivePserver) -> None:
    ben.call(cancel_when(ben.pserver.account.login("benno", "correct horse"), ben, None))
    assert eventually(lambda: ben.pserver.account.user) == "benno"


def test_a_repeated_login_keeps_session_index_and_transfers(ben: LivePserver, ana: LivePserver) -> None:
    ben.share("mine.txt", b"mine")
    ben.call(ben.pserver.announcer.sync())
    before = ben.session()

    async def work(_: Transfer) -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        transfer = ben.pserver.transfers.start("download", work)
        assert await ben.pserver.account.login("ben", PASSWORD) is False
        assert not transfer.finished
        transfer.stop("the test is over")

    ben.call(story())
    assert ben.session() == before
    assert [file.version.name for file in ana.call(ana.pserver.tracker.query(names=["mine.txt"]))] == ["mine.txt"]


def test_a_repeated_login_with_a_wrong_password_is_refused_and_changes_nothing(ben: LivePserver) -> None:
    before = ben.session()
    with pytest.raises(LoginRefused):
        ben.login("ben", "wrong")
    assert ben.pserver.account.user == "ben"
    assert ben.session() == before
    ben.call(ben.pserver.announcer.ping())


def test_a_repeated_login_without_the_tracker_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with ExitStack() as tracker_stack:
        tracker = tracker_stack.enter_context(live_tracker(tmp_path / "tracker"))
        with live_pserver(tmp_path / "cleo", tracker, "cleo") as cleo:
            before = cleo.session()
            tracker_stack.close()
            with pytest.raises(TrackerUnreachable):
                cleo.login("cleo")
            assert cleo.pserver.account.user == "cleo"
            assert cleo.session() == before


def test_an_unknown_user_is_registered_only_if_the_request_allows_it(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "new", tracker) as live, live.control() as control:
        request = pb.LoginRequest(user="newcomer", password=PASSWORD, register=False)
        with pytest.raises(grpc.RpcError) as error:
            control.Login(request, metadata=live.cookie, timeout=20)
        assert code_of(error.value) == (grpc.StatusCode.NOT_FOUND, "unknown_user")
        assert live.pserver.account.user is None
        request = pb.LoginRequest(user="newcomer", password=PASSWORD)
        assert control.Login(request, metadata=live.cookie, timeout=20).registered
        request = pb.LoginRequest(user="newcomer", password=PASSWORD, register=False)
        assert not control.Login(request, metadata=live.cookie, timeout=20).registered


def test_an_expired_session_ends_without_ending_the_transfers_of_the_next(
    ben: LivePserver, tracker: LiveTracker
) -> None:
    account, jobs = ben.pserver.account, ben.pserver.transfers
    client = with_token(tracker.url, ben.session()["token"])
    closing = asyncio.Event()

    async def stream() -> None:
        async with ben.pserver.transfer_service.active_streams.register():
            try:
                await closing.wait()
            finally:
                await closing.wait()

    async def work(_: Transfer) -> None:
        await closing.wait()

    async def expire_and_login() -> None:
        slow = asyncio.create_task(stream())
        await client.logout()
        while account.user is not None:
            await asyncio.sleep(0)
        await account.login("ben", PASSWORD)
        transfer = jobs.start("download", work)
        assert account.cleanup is not None
        await account.cleanup
        assert not transfer.finished
        closing.set()
        await asyncio.wait([slow])

    ben.call(expire_and_login())
