"""Orders that are broken off at a bad moment: what was begun is ended, what was verified is kept, the next goes on."""

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from eventually import eventually
from failing_disk import StuckDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20
# So long something is looked at that must not happen.
A_WHILE = 0.3


def order(ben: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """What an order brought, and what it did not."""
    with ben.control() as control:
        events = list(
            control.DownloadFileRequest(iter([pb.DownloadCommand(names=names)]), metadata=ben.cookie, timeout=30)
        )
    results = [event.results for event in events]
    return (
        list(itertools.chain.from_iterable(result.downloaded for result in results)),
        list(itertools.chain.from_iterable(result.faults for result in results)),
    )


def begin(ben: LivePserver, *names: str) -> None:
    """Order without waiting for what comes of it."""
    with ben.control() as control:
        next(control.DownloadFileRequest(iter([pb.DownloadCommand(names=names)]), metadata=ben.cookie, timeout=30))


def break_off(ben: LivePserver) -> Future[None]:
    """Cancel all orders; the future is done when they are over."""
    return asyncio.run_coroutine_threadsafe(ben.pserver.transfers.cancel_all(), ben.loop)


def test_an_order_is_not_over_while_its_file_is_being_published(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    manifest = ana.share("published.bin", os.urandom(3 * MIB))
    ana.call(ana.pserver.announcer.sync())
    disk = StuckDisk("fsync")
    with live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben:
        disk.arm()
        begin(ben, "published.bin")
        assert disk.reached.wait(10)
        over = break_off(ben)
        with pytest.raises(TimeoutError):
            over.result(A_WHILE)
        disk.let_go.set()
        over.result(10)
        assert [held.name for held in ben.pserver.library.by_id(manifest.id)] == ["published.bin"]
        [downloaded], faults = order(ben, "published.bin")
        assert (downloaded.already_present, faults) == (True, [])


def test_what_is_cancelled_while_its_part_is_opened_can_be_ordered_again(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    ana.share("opened.bin", os.urandom(3 * MIB))
    ana.call(ana.pserver.announcer.sync())
    disk = StuckDisk("allocate")
    with live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben:
        disk.arm()
        begin(ben, "opened.bin")
        assert disk.reached.wait(10)
        over = break_off(ben)
        disk.let_go.set()
        over.result(10)
        [downloaded], faults = order(ben, "opened.bin")
        assert (downloaded.name, faults) == ("opened.bin", [])


def test_what_others_still_ask_for_can_be_resumed(tmp_path: Path, tracker: LiveTracker, ana: LivePserver) -> None:
    content = os.urandom(8 * MIB)
    manifest = ana.share("asked.bin", content)
    ana.call(ana.pserver.announcer.sync())
    with live_pserver(tmp_path / "ben", tracker, "ben", download_limit=4 * MIB) as ben, ben.transfer() as transfer:
        begin(ben, "asked.bin")
        eventually(lambda: any(file.have().pieces for file in ben.pserver.sources.partial_files))
        asking = threading.Event()

        def wishes() -> Iterator[pb.PieceRequest]:
            yield pb.PieceRequest()
            asking.wait(30)

        asker = transfer.DownloadFile(wishes(), metadata=ben.ticket(manifest.id, requester="c" * 32), timeout=30)
        assert not next(asker).have.complete
        break_off(ben).result(10)
        [downloaded], faults = order(ben, "asked.bin")
        assert faults == []
        assert downloaded.resumed_bytes > 0
        assert (ben.shared / "asked.bin").read_bytes() == content
        assert asker.is_active()
        asking.set()


def test_small_files_that_were_verified_are_kept(tmp_path: Path, tracker: LiveTracker) -> None:
    with (
        live_pserver(tmp_path / "slow", tracker, "slow", upload_limit=100_000) as slow,
        live_pserver(tmp_path / "ben", tracker, "ben") as ben,
    ):
        for number in range(300):
            slow.share(f"small/{number}", os.urandom(3000))
        slow.call(slow.pserver.announcer.sync())
        begin(ben, "small/")
        [transfer] = ben.pserver.transfers
        eventually(lambda: transfer.counters.done)
        break_off(ben).result(10)
        kept = ben.pserver.library.names()
        assert len(kept) == transfer.counters.done / 3000 < 300
        assert all((ben.shared / name).stat().st_size == 3000 for name in kept)
