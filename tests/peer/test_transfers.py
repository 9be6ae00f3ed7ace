"""Transfers belong to the pserver: watchers come and go, results are never lost, every end is told."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from common.control_messages import Fault, Notice, Phase, Progress, SourceView, Uploaded
from daemon.errors import AmbiguousName, DiskFull, NoSuchFile
from daemon.runtime.rate import Rate
from daemon.runtime.transfers import Transfer, TransferRegistry
from manual_clock import ManualUnixClock


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(bounded())


async def told(transfer: Transfer) -> list[Any]:
    """Everything but progress that a watcher hears until the end."""
    return [event async for news in transfer.watch() if isinstance(news, list) for event in news]


def uploaded(number: int) -> Uploaded:
    return Uploaded(f"{number}.txt", "ab" * 32, number, ())


def test_what_was_told_before_anybody_listened_is_heard_by_whoever_comes() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())

        async def quick(transfer: Transfer) -> None:
            transfer.emit(uploaded(1))
            raise DiskFull("the disk is full", name="x")

        transfer = jobs.start("upload", quick)
        assert transfer.task is not None
        await transfer.task
        for _ in range(2):
            assert await told(transfer) == [uploaded(1), Fault("disk_full", "the disk is full", "x")]
        assert jobs.count("upload") == 0

    run(work())


def test_every_watcher_hears_all_and_a_watcher_that_leaves_changes_nothing() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())
        go_on = asyncio.Event()

        async def slow(transfer: Transfer) -> None:
            await go_on.wait()
            for number in range(1200):
                transfer.emit(uploaded(number))

        transfer = jobs.start("upload", slow)
        stays, leaves = asyncio.create_task(told(transfer)), asyncio.create_task(told(transfer))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaves.cancel()
        go_on.set()
        assert await stays == [uploaded(number) for number in range(1200)]
        assert len(await told(transfer)) == 1200

    run(work())


def test_a_watcher_that_comes_late_hears_all_from_the_beginning() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())
        go_on = asyncio.Event()

        async def in_two(transfer: Transfer) -> None:
            transfer.emit(uploaded(1))
            await go_on.wait()
            transfer.emit(uploaded(2))

        transfer = jobs.start("upload", in_two)
        early = asyncio.create_task(told(transfer))
        async for news in transfer.watch():
            if isinstance(news, list):
                break
        late = asyncio.create_task(told(transfer))
        go_on.set()
        assert await early == await late == [uploaded(1), uploaded(2)]

    run(work())


def test_an_order_is_found_while_it_is_under_way_and_not_once_it_was_stopped() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        transfer = jobs.start("download", endless, ("a.txt",))
        assert jobs.find("download", ("a.txt",)) is transfer
        assert jobs.find("upload", ("a.txt",)) is None
        assert jobs.find("download", ("b.txt",)) is None
        jobs.cancel(transfer.number)
        assert jobs.find("download", ("a.txt",)) is None
        await told(transfer)

    run(work())


def test_cancelling_tells_how_to_resume() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        transfer = jobs.start("download", endless)
        hearing = asyncio.create_task(told(transfer))
        await asyncio.sleep(0)
        jobs.cancel(transfer.number)
        [fault] = await hearing
        assert fault.message.startswith("stopped by Ctrl-C at another terminal")
        assert fault.code == "interrupted" and "run it again to resume" in fault.message
        with pytest.raises(NoSuchFile):
            jobs.get(transfer.number)

    run(work())


def test_a_removal_that_is_stopped_tells_what_it_leaves() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())
        transfer = jobs.start("removal", lambda transfer: asyncio.sleep(60))
        await jobs.cancel_all()
        [fault] = await told(transfer)
        assert fault.message == (
            "stopped: this peer logs out or ends: what it removed is gone, run it again for the rest"
        )

    run(work())


def test_a_transfer_that_is_cancelled_before_it_began_ends_once_and_is_told() -> None:
    async def work() -> None:
        ends: list[tuple[str, str]] = []
        jobs = TransferRegistry(ManualUnixClock(), lambda kind, outcome: ends.append((kind, outcome)))

        async def never_begun(transfer: Transfer) -> None:
            raise AssertionError("it began")

        transfer = jobs.start("download", never_begun)
        await jobs.cancel_all()
        assert ends == [("download", "cancelled")]
        assert list(jobs) == []
        [fault] = await told(transfer)
        assert fault.code == "interrupted"

    run(work())


def test_what_nobody_foresaw_is_an_internal_fault_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())

        async def broken(transfer: Transfer) -> None:
            raise RuntimeError("secret of the inside")

        transfer = jobs.start("upload", broken)
        [fault] = await told(transfer)
        assert fault.code == "internal" and "secret" not in fault.message

    run(work())
    assert "nobody foresaw" in caplog.text


def test_all_end_when_nobody_is_logged_in_any_more() -> None:
    async def work() -> None:
        jobs = TransferRegistry(ManualUnixClock())

        async def endless(transfer: Transfer) -> None:
            await asyncio.Event().wait()

        transfers = [jobs.start(kind, endless) for kind in ("upload", "download", "download")]
        await asyncio.sleep(0)
        assert jobs.count("download") == 2
        await jobs.cancel_all()
        assert all(transfer.finished for transfer in transfers)
        assert list(jobs) == []

    run(work())


def test_progress_shows_the_phase_the_bytes_and_the_peers() -> None:
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


def test_a_fault_names_what_it_is_about_and_the_ids_to_choose_from() -> None:
    fault = Fault.of(AmbiguousName("two versions", name="a.txt", ids=("1", "2")), "other")
    assert (fault.name, fault.ids) == ("a.txt", ("1", "2"))
    assert Fault.of(DiskFull("full"), "b.txt").name == "b.txt"


def test_a_rate_settles_and_forgets() -> None:
    clock = ManualUnixClock()
    rate = Rate(clock)
    assert rate.now() == 0
    for _ in range(100):
        clock.now += 0.1
        rate.add(1000)
    assert rate.now() == pytest.approx(10_000, rel=0.15)
    clock.now += 60
    assert rate.now() < 10
