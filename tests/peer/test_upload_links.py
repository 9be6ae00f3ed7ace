"""upload --link, advice to link, and files that are written to while they are uploaded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pserver_pb2 as pb
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker


@pytest.fixture
def una(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "una", tracker, "una") as live:
        yield live


def upload(una: LivePserver, *paths: Path, link: bool = False) -> tuple[list[str], list[pb.Fault]]:
    """The names that were uploaded, and the faults."""
    command = pb.UploadCommand(paths=map(str, paths), copies=0, link=link)
    with una.control() as control:
        events = control.UploadFileRequest(iter([command]), metadata=una.cookie, timeout=30)
        results = [event.results for event in events]
    return (
        [file.name for each in results for file in each.uploaded],
        [fault for each in results for fault in each.faults],
    )


@contextmanager
def appending(path: Path, *, keep_open: bool) -> Iterator[None]:
    """Append a line to a file, again and again, until the end of the block."""
    end, begun = threading.Event(), threading.Event()

    def run() -> None:
        file = path.open("ab", buffering=0)
        while not end.wait(0.02):
            if not keep_open:
                file.close()
                file = path.open("ab", buffering=0)
            file.write(b"line\n")
            begun.set()
        file.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(10)
        yield
    finally:
        end.set()
        thread.join()


def test_a_linked_file_is_one_file_with_two_names(una: LivePserver, tmp_path: Path) -> None:
    folder = tmp_path / "disc"
    folder.mkdir()
    (folder / "a.iso").write_bytes(b"a" * 3_000_000)
    (folder / "b.iso").write_bytes(b"b")
    assert upload(una, folder, link=True) == (["disc/a.iso", "disc/b.iso"], [])
    for name in ("a.iso", "b.iso"):
        assert (una.shared / "disc" / name).samefile(folder / name)
        assert (folder / name).stat().st_nlink == 2
    # Again: nothing is to be done.
    assert upload(una, folder, link=True) == (["disc/a.iso", "disc/b.iso"], [])
    assert os.listdir(una.shared / ".p2p") == []


def test_a_link_at_the_path_itself_is_followed(una: LivePserver, tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"real")
    (tmp_path / "link.bin").symlink_to("real.bin")
    assert upload(una, tmp_path / "link.bin", link=True) == (["link.bin"], [])
    assert (una.shared / "link.bin").samefile(tmp_path / "real.bin")
    assert not (una.shared / "link.bin").is_symlink()


def test_a_link_never_replaces_other_content(una: LivePserver, tmp_path: Path) -> None:
    una.share("same.txt", b"mine")
    (tmp_path / "same.txt").write_text("other")
    uploaded, [fault] = upload(una, tmp_path / "same.txt", link=True)
    assert (uploaded, fault.code) == ([], "target_exists")
    assert (una.shared / "same.txt").read_bytes() == b"mine"
    assert (tmp_path / "same.txt").stat().st_nlink == 1


@pytest.mark.parametrize("keep_open", [True, False])
def test_a_file_that_is_written_to_in_place_is_a_fault_and_is_shared_when_it_rests(
    una: LivePserver, keep_open: bool
) -> None:
    log = una.shared / "app.log"
    log.write_bytes(b"first\n")
    with appending(log, keep_open=keep_open):
        uploaded, [fault] = upload(una, log)
    assert (uploaded, fault.code, fault.name) == ([], "interrupted", "app.log")
    assert fault.message == "it is being written to; it will be shared when it stops changing"
    eventually(lambda: upload(una, log) == (["app.log"], []))


def test_a_finished_file_is_shared_at_once_although_it_is_new(una: LivePserver) -> None:
    (una.shared / "new.txt").write_text("new")
    with (una.shared / "new.txt").open("rb"):
        assert upload(una, una.shared / "new.txt") == (["new.txt"], [])


def test_a_growing_file_from_outside_is_shared_as_it_was_at_the_start(una: LivePserver, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"first\n" * 1000)
    with appending(log, keep_open=True):
        size = log.stat().st_size
        assert upload(una, log) == (["app.log"], [])
    copy = (una.shared / "app.log").read_bytes()
    assert len(copy) >= size
    assert log.read_bytes().startswith(copy)
