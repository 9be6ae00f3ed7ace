"""Claims about a shared folder that the user empties, moves or replaces while the pserver runs."""

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from eventually import eventually
from failing_disk import StuckDisk
from live_pserver import LivePserver, code_of, live_pserver
from live_tracker import LiveTracker


@pytest.fixture
def peer(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer for one test, since the tests change it for good."""
    with live_pserver(tmp_path / "peer", tracker, "ana") as live:
        yield live


def upload(peer: LivePserver, path: Path) -> list[tuple[str, str]]:
    """Upload a file; return each result as (name, "") or (code, message)."""
    with peer.control() as control:
        command = pb.UploadCommand(paths=[str(path)])
        return outcome(control.UploadFileRequest(iter([command]), metadata=peer.cookie, timeout=20))


def download(peer: LivePserver, name: str) -> list[tuple[str, str]]:
    """Download a file; return its results like `upload`."""
    with peer.control() as control:
        command = pb.DownloadCommand(names=[name])
        return outcome(control.DownloadFileRequest(iter([command]), metadata=peer.cookie, timeout=20))


def outcome(call: Iterable[pb.TransferEvent]) -> list[tuple[str, str]]:
    try:
        results = [event.results for event in call]
    except grpc.RpcError as error:
        return [(code_of(error)[1], str(error.details()))]
    done = [(result.name, "") for part in results for result in part.uploaded]
    done += [(result.name, "") for part in results for result in part.downloaded]
    return done + [(fault.code, fault.message) for part in results for fault in part.faults]


def test_a_deleted_dot_folder_is_created_again(peer: LivePserver, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_bytes(b"new")
    shutil.rmtree(peer.shared / ".p2p")
    assert upload(peer, tmp_path / "new.txt")[0] == ("new.txt", "")
    assert (peer.shared / "new.txt").read_bytes() == b"new"
    assert (peer.shared / ".p2p").stat().st_mode & 0o777 == 0o700


def test_a_download_whose_dot_folder_was_deleted_can_be_repeated(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver
) -> None:
    content = os.urandom(3 << 20)
    ana.share("going.bin", content)
    ana.call(ana.pserver.announcer.sync())
    disk = StuckDisk("fsync")
    with live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben, ThreadPoolExecutor() as pool:
        disk.arm()
        first = pool.submit(download, ben, "going.bin")
        assert disk.reached.wait(10)
        shutil.rmtree(ben.shared / ".p2p")
        disk.resume.set()
        ((code, message),) = first.result(20)
        assert (code, message[-17:]) == ("io", "deleted from .p2p")
        assert download(ben, "going.bin") == [("going.bin", "")]
        assert (ben.shared / "going.bin").read_bytes() == content


def test_a_link_that_replaces_the_dot_folder_is_not_followed(peer: LivePserver, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_bytes(b"new")
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(peer.shared / ".p2p")
    (peer.shared / ".p2p").symlink_to(tmp_path / "elsewhere")
    assert [code for code, _ in upload(peer, tmp_path / "new.txt")] == ["io"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_a_moved_or_deleted_folder_shares_and_stores_nothing(
    peer: LivePserver, tmp_path: Path, again: bool, removed: bool
) -> None:
    peer.share("old.txt", b"old")
    (tmp_path / "new.txt").write_bytes(b"new")
    if removed:
        shutil.rmtree(peer.shared)
    else:
        peer.shared.rename(tmp_path / "elsewhere")
    if again:
        peer.shared.mkdir()
    ((code, message),) = upload(peer, tmp_path / "new.txt")
    assert code == "io"
    assert "was moved or removed; put it back, or restart the pserver" in message
    eventually(lambda: not list(peer.pserver.library.names()))
    eventually(lambda: [refused.name for refused in peer.pserver.scanner.not_shared] == [str(peer.shared)])
    assert not removed or not again or list(peer.shared.iterdir()) == []


def test_a_folder_that_is_moved_back_is_shared_again(peer: LivePserver, tmp_path: Path) -> None:
    peer.share("old.txt", b"old")
    peer.shared.rename(tmp_path / "elsewhere")
    eventually(lambda: not list(peer.pserver.library.names()))
    (tmp_path / "elsewhere").rename(peer.shared)
    eventually(lambda: list(peer.pserver.library.names()) == ["old.txt"])
