"""Orders that are broken off at a bad moment: what was begun is ended, what was verified is kept, the next goes on."""

import asyncio
import itertools
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from failing_disk import StuckDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20
# So long something is looked at that must not happen.
A_WHILE = 0.3


def order(ben: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """What an order brought, and what it did not."""
    with ben.control() as control:
        events = list(control.DownloadFileRequest(pb.DownloadOrder(names=names), metadata=ben.cookie, timeout=30))
    results = [event.results for event in events]
    return (
        list(itertools.chain.from_iterable(result.downloaded for result in results)),
        list(itertools.chain.from_iterable(result.faults for result in results)),
    )


def begin(ben: LivePserver, *names: str) -> None:
    """Order without waiting for what comes of it."""
    with ben.control() as control:
        next(control.DownloadFileRequest(pb.DownloadOrder(names=names), metadata=ben.cookie, timeout=30))


def break_off(ben: LivePserver) -> Future[None]:
    """Cancel all orders; the future is done when they are over."""
    return asyncio.run_coroutine_threadsafe(ben.pserver.jobs.cancel_all(), ben.loop)


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
        assert (downloaded.present, faults) == (True, [])
