"""A repeated command attaches to the one that runs; a removed file is neither pushed nor served any more."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20
CONTENT = os.urandom(5 * MIB)
# Five pieces take long enough to do something meanwhile.
SLOW = 2 * MIB


class Follower:
    """A thread that follows one command, as a pclient does."""

    def __init__(self, peer: LivePserver, method: str, command: Any) -> None:
        self.events: list[Any] = []
        self.thread = threading.Thread(target=self._follow, args=(peer, method, command), daemon=True)
        self.thread.start()

    def _follow(self, peer: LivePserver, method: str, command: Any) -> None:
        with peer.control() as control:
            for event in getattr(control, method)(iter([command]), metadata=peer.cookie, timeout=60):
                self.events.append(event)

    @property
    def number(self) -> int:
        eventually(lambda: self.events)
        started: int = self.events[0].started.transfer
        return started

    @property
    def notices(self) -> list[str]:
        return [event.notice for event in self.events if event.notice]

    def has_moved(self) -> bool:
        return any(event.progress.done for event in self.events if event.progress.phase == pb.Progress.PHASE_MOVING)

    def results(self) -> list[Any]:
        """All results, when the command has ended."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        each = [event.results for event in self.events]
        return [item for result in each for item in (*result.downloaded, *result.uploaded, *result.faults)]


def download(peer: LivePserver, *names: str, output: str = "") -> Follower:
    return Follower(peer, "DownloadFileRequest", pb.DownloadCommand(names=names, output=output))


def upload(peer: LivePserver, path: Path) -> Follower:
    return Follower(peer, "UploadFileRequest", pb.UploadCommand(paths=[str(path)], copies=1))


def cancel(peer: LivePserver, number: int) -> None:
    with peer.control() as control:
        control.CancelTransfer(pb.CancelTransferRequest(transfer=number), metadata=peer.cookie, timeout=20)


def remove(peer: LivePserver, name: str) -> None:
    with peer.control() as control:
        command = iter([pb.RemoveCommand(names=[name])])
        events = list(control.RemoveFiles(command, metadata=peer.cookie, timeout=30))
    assert [file.name for event in events for file in event.results.removed] == [name]


@pytest.fixture
def slow(tracker: LiveTracker, tmp_path: Path) -> Iterator[LivePserver]:
    """A peer that sends slowly."""
    with live_pserver(tmp_path / "slow", tracker, "slow", upload_limit=SLOW) as peer:
        peer.share("big.bin", CONTENT)
        peer.call(peer.pserver.announcer.sync())
        yield peer


@pytest.fixture
def ben(tracker: LiveTracker, tmp_path: Path) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "ben", tracker, "ben") as peer:
        yield peer


def test_a_repeated_download_attaches_and_gets_the_same_result(slow: LivePserver, ben: LivePserver) -> None:
    first = download(ben, "big.bin")
    eventually(first.has_moved)
    second = download(ben, "big.bin")
    assert second.number == first.number
    [one], [other] = first.results(), second.results()
    assert one == other
    assert not one.already_present and one.seconds > 0 and list(one.holders) == [slow.address]
    assert "already running" in second.notices[0] and not first.notices


def test_cancelling_an_attached_download_ends_it_for_both_pclients(slow: LivePserver, ben: LivePserver) -> None:
    first = download(ben, "big.bin")
    eventually(first.has_moved)
    second = download(ben, "big.bin")
    cancel(ben, second.number)
    for follower in (first, second):
        [fault] = follower.results()
        assert (fault.code, "in another pclient" in fault.message) == ("interrupted", True)
    assert not (ben.shared / "big.bin").exists()


def test_another_download_of_the_same_file_is_queued(slow: LivePserver, ben: LivePserver, tmp_path: Path) -> None:
    first = download(ben, "big.bin")
    eventually(first.has_moved)
    second = download(ben, "big.bin", output=str(tmp_path / "copy.bin"))
    assert second.number != first.number
    queued = (pb.Progress.PHASE_QUEUED, "big.bin")
    eventually(lambda: queued in [(event.progress.phase, event.progress.name) for event in second.events])
    first.results()
    [result] = second.results()
    assert (result.path, result.already_present, result.seconds > 0) == (str(tmp_path / "copy.bin"), False, True)


def test_a_repeated_upload_attaches_unless_the_file_has_changed(
    slow: LivePserver, ben: LivePserver, tmp_path: Path
) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(CONTENT[::-1])
    first = upload(slow, path)
    eventually(first.has_moved)
    second = upload(slow, path)
    assert second.number == first.number
    path.write_bytes(b"other")
    third = upload(slow, path)
    assert third.number != first.number
    assert [fault.code for fault in third.results()] == ["target_exists"]
    assert first.results() == second.results()
    assert [list(result.copies) for result in first.results()] == [[ben.address]]


def test_a_file_removed_during_its_push_is_not_stored(slow: LivePserver, ben: LivePserver) -> None:
    push = upload(slow, slow.shared / "big.bin")
    eventually(push.has_moved)
    remove(slow, "big.bin")
    [fault] = push.results()
    assert (fault.code, fault.name) == ("no_such_file", "big.bin")
    assert "removed or changed during the upload" in fault.message
    eventually(lambda: not list(ben.pserver.transfers))
    assert not (ben.shared / "big.bin").exists()


def test_a_file_removed_during_its_download_is_not_served_any_more(slow: LivePserver, ben: LivePserver) -> None:
    fetch = download(ben, "big.bin")
    eventually(fetch.has_moved)
    remove(slow, "big.bin")
    eventually(lambda: not list(slow.pserver.transfers))
    eventually(lambda: any(event.progress.phase == pb.Progress.PHASE_WAITING for event in fetch.events))
    cancel(ben, fetch.number)
    assert [fault.code for fault in fetch.results()] == ["interrupted"]
    assert not (ben.shared / "big.bin").exists()
