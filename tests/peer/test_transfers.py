"""Transfers run without watchers, results are never lost, and every watcher gets the outcome."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from common.control_messages import Fault, Hint, Notice, Phase, Progress, SourceView, Uploaded
from daemon.errors import AmbiguousName, DiskFull, NoSuchFile
from daemon.runtime.metrics import Rate
from daemon.runtime.transfers import Transfer, TransferRegistry
from manual_clock import ManualUnixClock


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(bounded())


async def events_of(transfer: Transfer) -> list[Any]:
    """Return all events of a transfer, as a watcher gets them."""
    return [event async for update in transfer.watch() if isinstance(update, list) for event in update]


def uploaded(number: int) -> Uploaded:
    return Uploaded(f"{number}.txt", "ab" * 32, number, ())


def test_events_before_the_first_watcher_reach_every_watcher() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())

        async def quick(transfer: Transfer) -> None:
            transfer.emit(uploaded(1))
            raise DiskFull("the disk is full", name="x")

        transfer = transfers.start("upload", quick)
        assert transfer.task is not None
        await transfer.task
        for _ in range(2):
            assert await events_of(transfer) == [uploaded(1), Fault("disk_full", "the disk is full", "x")]
        assert transfers.count("upload") == 0

    run(work())


def test_every_watcher_gets_all_events_even_if_another_leaves() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())
        go_on = asyncio.Event()

        async def slow(transfer: Transfer) -> None:
            await go_on.wait()
            for number in range(1200):
                transfer.emit(uploaded(number))

        transfer = transfers.start("upload", slow)
        stays, leaves = asyncio.create_task(events_of(transfer)), asyncio.create_task(events_of(transfer))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaves.cancel()
        go_on.set()
        assert await stays == [uploaded(number) for number in range(1200)]
        assert len(await events_of(transfer)) == 1200

    run(work())


def test_a_late_watcher_gets_all_events_from_the_first() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())
        go_on = asyncio.Event()

        async def in_two(transfer: Transfer) -> None:
            transfer.emit(uploaded(1))
            await go_on.wait()
            transfer.emit(uploaded(2))

        transfer = transfers.start("upload", in_two)
        early = asyncio.create_task(events_of(transfer))
        async for update in transfer.watch():
            if isinstance(update, list):
                break
        late = asyncio.create_task(events_of(transfer))
        go_on.set()
        assert await early == await late == [uploaded(1), uploaded(2)]

    run(work())


def test_a_transfer_is_found_by_its_key_until_it_is_stopped() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        transfer = transfers.start("download", endless, ("a.txt",))
        assert transfers.find("download", ("a.txt",)) is transfer
        assert transfers.find("upload", ("a.txt",)) is None
        assert transfers.find("download", ("b.txt",)) is None
        transfers.cancel(transfer.number)
        assert transfers.find("download", ("a.txt",)) is None
        await events_of(transfer)

    run(work())


def test_a_cancelled_transfer_can_be_resumed() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        transfer = transfers.start("download", endless)
        hearing = asyncio.create_task(events_of(transfer))
        await asyncio.sleep(0)
        transfers.cancel(transfer.number)
        [fault] = await hearing
        assert (fault.code, fault.hint) == ("interrupted", Hint.RESUME)
        assert fault.message == "stopped by Ctrl-C in another pclient"
        with pytest.raises(NoSuchFile):
            transfers.get(transfer.number)

    run(work())


def test_a_stopped_removal_can_be_repeated() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())
        transfer = transfers.start("removal", lambda transfer: asyncio.sleep(60))
        await transfers.cancel_all()
        [fault] = await events_of(transfer)
        assert fault.message == "stopped because this peer logged out or shut down"
        assert fault.hint is Hint.REPEAT

    run(work())


def test_a_transfer_that_is_cancelled_before_it_runs_finishes_once() -> None:
    async def work() -> None:
        ends: list[tuple[str, str]] = []
        transfers = TransferRegistry(ManualUnixClock(), lambda kind, outcome: ends.append((kind, outcome)))

        async def never_begun(transfer: Transfer) -> None:
            raise AssertionError("it began")

        transfer = transfers.start("download", never_begun)
        await transfers.cancel_all()
        assert ends == [("download", "cancelled")]
        assert list(transfers) == []
        [fault] = await events_of(transfer)
        assert fault.code == "interrupted"

    run(work())


def test_an_unexpected_error_is_an_internal_fault_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())

        async def broken(transfer: Transfer) -> None:
            raise RuntimeError("secret of the inside")

        transfer = transfers.start("upload", broken)
        [fault] = await events_of(transfer)
        assert fault.code == "internal" and "secret" not in fault.message

    run(work())
    assert "unexpected error in transfer" in caplog.text


def test_cancelling_all_transfers_waits_until_they_have_ended() -> None:
    async def work() -> None:
        transfers = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        running = [transfers.start(kind, endless) for kind in ("upload", "download", "download")]
        await asyncio.sleep(0)
        assert transfers.count("download") == 2
        await transfers.cancel_all()
        assert all(transfer.finished for transfer in running)
        assert list(transfers) == []

    run(work())


def test_progress_shows_phase_bytes_and_sources() -> None:
    async def work() -> None:
        clock = ManualUnixClock()
        transfer = TransferRegistry(clock).register("download")
        transfer.start_phase(Phase.MOVING, "film.bin", 100)
        source = SourceView("127.0.0.1:5001", 5.0, 40, "active", "")
        with transfer.show_sources(lambda: [source]):
            clock.now += 1
            transfer.add_bytes(40)
            shown = transfer.progress()
        assert (shown.phase, shown.name, shown.done, shown.total) == (Phase.MOVING, "film.bin", 40, 100)
        assert shown.sources == (source,)
        assert transfer.progress().sources == ()
        transfer.emit(Notice("only a word"))
        transfer.emit(uploaded(1))
        assert transfer.progress().files_done == 1
        first = await anext(transfer.watch())
        assert isinstance(first, Progress)

    run(work())


def test_a_fault_has_the_name_and_the_ids_of_its_error() -> None:
    fault = Fault.of(AmbiguousName("two versions", name="a.txt", ids=("1", "2")), "other")
    assert (fault.name, fault.ids) == ("a.txt", ("1", "2"))
    assert Fault.of(DiskFull("full"), "b.txt").name == "b.txt"


def test_a_rate_converges_and_decays() -> None:
    clock = ManualUnixClock()
    rate = Rate(clock)
    assert rate.now() == 0
    for _ in range(100):
        clock.now += 0.1
        rate.add(1000)
    assert rate.now() == pytest.approx(10_000, rel=0.15)
    clock.now += 60
    assert rate.now() < 10
