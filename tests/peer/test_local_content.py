"""A download of content that the shared folder has under another name: copied here, in batches, not downloaded."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from failing_disk import CountingDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

FILES = 60


class NamingDisk(CountingDisk):
    """Counts its operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def before_operation(self, number: int, operation: str) -> None:
        self.counts[operation] += 1


@pytest.fixture(scope="module")
def network(ana: LivePserver) -> None:
    """Files of ana: 60 empty ones, and 60 with one content."""
    for number in range(FILES):
        ana.share(f"empty/{number % 3}/{number}", b"")
        ana.share(f"same/{number % 3}/{number}", b"the same")
    ana.call(ana.pserver.announcer.sync())


@pytest.fixture
def disk() -> NamingDisk:
    return NamingDisk()


@pytest.fixture
def ben(tmp_path: Path, tracker: LiveTracker, disk: NamingDisk, network: None) -> Iterator[LivePserver]:
    with live_pserver(tmp_path, tracker, "ben", disk=disk, ping_interval=300) as live:
        yield live


def download(peer: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """Download; return the results and the faults."""
    with peer.control() as control:
        command = iter([pb.DownloadCommand(names=names)])
        results = [event.results for event in control.DownloadFileRequest(command, metadata=peer.cookie, timeout=60)]
    return [file for each in results for file in each.downloaded], [fault for each in results for fault in each.faults]


@pytest.mark.parametrize(("top", "content"), [("empty", b""), ("same", b"the same")])
def test_small_files_are_copied_and_synced_together(
    ben: LivePserver, disk: NamingDisk, top: str, content: bytes
) -> None:
    ben.share("here", content)
    disk.arm()
    downloaded, faults = download(ben, f"{top}/")
    assert faults == []
    assert [(file.holders, file.already_present) for file in downloaded] == [([], False)] * FILES
    for number in range(FILES):
        assert (ben.shared / f"{top}/{number % 3}/{number}").read_bytes() == content
    assert disk.counts["fsync"] + disk.counts["sync_filesystem"] < 10


def sent_bytes(peer: LivePserver) -> float:
    """Return the payload that a peer has sent."""
    [metric] = peer.pserver.metrics.bytes_sent.collect()
    return next(sample.value for sample in metric.samples if sample.name == "p2p_sent_bytes_total")


@pytest.mark.parametrize("top", ["empty", "same"])
def test_the_bytes_of_files_with_one_content_are_downloaded_once(
    ben: LivePserver, ana: LivePserver, disk: NamingDisk, top: str
) -> None:
    before = sent_bytes(ana)
    disk.arm()
    downloaded, faults = download(ben, f"{top}/")
    assert faults == []
    assert [list(file.holders) for file in downloaded] == [[ana.address]] * FILES
    assert sent_bytes(ana) - before == len(b"the same" if top == "same" else b"")
    assert disk.counts["fsync"] + disk.counts["sync_filesystem"] < 15


def test_a_copy_that_is_gone_meanwhile_is_downloaded(ben: LivePserver) -> None:
    ben.share("here", b"the same")
    (ben.shared / "here").unlink()
    downloaded, faults = download(ben, "same/0/0")
    assert faults == []
    assert [len(file.holders) for file in downloaded] == [1]


def test_each_copy_is_announced(ben: LivePserver, ana: LivePserver, tmp_path: Path, tracker: LiveTracker) -> None:
    ben.share("here", b"")
    downloaded, _ = download(ben, "empty/")
    assert len(downloaded) == FILES
    with live_pserver(tmp_path / "eve", tracker, "eve") as eve:
        found = eve.call(eve.pserver.tracker.query(names=[file.name for file in downloaded]))
    holders = {file.version.name: {holder.address for holder in file.holders} for file in found}
    assert holders == {file.name: {ana.address, ben.address} for file in downloaded}
