"""Downloads that are cancelled at a bad moment: verified data stays, and the next download resumes."""

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
# Seconds in which something must not happen.
A_WHILE = 0.3


def download(ben: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """Download names; return the results and the faults."""
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
    """Start a download without waiting for its results."""
    with ben.control() as control:
        next(control.DownloadFileRequest(iter([pb.DownloadCommand(names=names)]), metadata=ben.cookie, timeout=30))


def cancel_all(ben: LivePserver) -> Future[None]:
    """Cancel all transfers; the future is done when they have ended."""
    return asyncio.run_coroutine_threadsafe(ben.pserver.transfers.cancel_all(), ben.loop)


def test_a_cancelled_download_ends_after_the_publication_under_way(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    manifest = ana.share("published.bin", os.urandom(3 * MIB))
    ana.call(ana.pserver.announcer.sync())
    disk = StuckDisk("fsync")
    with live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben:
        disk.arm()
        begin(ben, "published.bin")
        assert disk.reached.wait(10)
        ended = cancel_all(ben)
        with pytest.raises(TimeoutError):
            ended.result(A_WHILE)
        disk.resume.set()
        ended.result(10)
        assert [held.name for held in ben.pserver.library.by_id(manifest.id)] == ["published.bin"]
        [downloaded], faults = download(ben, "published.bin")
        assert (downloaded.already_present, faults) == (True, [])


def test_a_download_cancelled_while_its_part_is_opened_can_be_repeated(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    ana.share("opened.bin", os.urandom(3 * MIB))
    ana.call(ana.pserver.announcer.sync())
    disk = StuckDisk("allocate")
    with live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben:
        disk.arm()
        begin(ben, "opened.bin")
        assert disk.reached.wait(10)
        ended = cancel_all(ben)
        disk.resume.set()
        ended.result(10)
        [downloaded], faults = download(ben, "opened.bin")
        assert (downloaded.name, faults) == ("opened.bin", [])


def test_a_download_with_requesters_can_be_cancelled_and_resumed(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    content = os.urandom(8 * MIB)
    manifest = ana.share("requested.bin", content)
    ana.call(ana.pserver.announcer.sync())
    with live_pserver(tmp_path / "ben", tracker, "ben", download_limit=4 * MIB) as ben, ben.transfer() as transfer:
        begin(ben, "requested.bin")
        eventually(lambda: any(file.have().pieces for file in ben.pserver.served_files.partial_files))
        requesting = threading.Event()

        def requests() -> Iterator[pb.PieceRequest]:
            yield pb.PieceRequest()
            requesting.wait(30)

        requester = transfer.DownloadFile(requests(), metadata=ben.ticket(manifest.id, requester="c" * 32), timeout=30)
        assert not next(requester).have.complete
        cancel_all(ben).result(10)
        [downloaded], faults = download(ben, "requested.bin")
        assert faults == []
        assert downloaded.resumed_bytes > 0
        assert (ben.shared / "requested.bin").read_bytes() == content
        assert requester.is_active()
        requesting.set()


def test_a_cancelled_download_publishes_its_verified_small_files(tmp_path: Path, tracker: LiveTracker) -> None:
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
        cancel_all(ben).result(10)
        names = ben.pserver.library.names()
        assert len(names) == transfer.counters.done / 3000 < 300
        assert all((ben.shared / name).stat().st_size == 3000 for name in names)
