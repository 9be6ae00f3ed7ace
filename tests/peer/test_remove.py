"""What the arguments of a removal mean: names, folders and patterns over this peer's own files."""

from pathlib import Path

import pytest

import pserver_pb2 as pb
from failing_disk import StuckDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

NAMES = ("a.jpg", "B.JPG", "trip/c.jpg", "trip/d.txt", "x[1].txt", "x1.txt", "odd*.txt", "oddly.txt")


def remove(peer: LivePserver, *names: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Names that are gone, and (code, what it is about) of what is not."""
    with peer.control() as control:
        results = [
            event.results
            for event in control.RemoveFiles(iter([pb.RemoveCommand(names=names)]), metadata=peer.cookie, timeout=30)
        ]
    removed = sorted(file.name for each in results for file in each.removed)
    return removed, [(fault.code, fault.name) for each in results for fault in each.faults]


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (["a.jpg"], ["a.jpg"]),
        (["A.jpg"], []),
        (["*.jpg"], ["B.JPG", "a.jpg", "trip/c.jpg"]),
        (["?.jpg", "trip/"], ["B.JPG", "a.jpg", "trip/c.jpg", "trip/d.txt"]),
        (["x[1].*"], ["x[1].txt"]),
        (["x?.txt"], ["x1.txt"]),
        # A file that is called like a pattern is meant first.
        (["odd*.txt"], ["odd*.txt"]),
        (["odd*"], ["odd*.txt", "oddly.txt"]),
        # One that several arguments mean is gone once, and missing to none of them.
        (["trip/c.jpg", "trip/*", "trip/", "*/c.jpg"], ["trip/c.jpg", "trip/d.txt"]),
        (["jpg", "*.png", "trip"], []),
    ],
)
def test_names_folders_and_patterns(tracker: LiveTracker, tmp_path: Path, names: list[str], gone: list[str]) -> None:
    with live_pserver(tmp_path, tracker) as peer:
        for name in NAMES:
            peer.share(name, name.encode())
        assert remove(peer, *names) == (gone, [] if gone else [("no_such_file", name) for name in names])
        left = [name for name in NAMES if (peer.shared / name).exists()]
        assert left == [name for name in NAMES if name not in gone]


def test_a_removal_that_is_cancelled_stops_between_two_files_and_tells_of_those_that_are_gone(
    tracker: LiveTracker, tmp_path: Path
) -> None:
    disk = StuckDisk("unlink")
    with live_pserver(tmp_path, tracker, disk=disk) as peer, peer.control() as control:
        for name in ("lots/1", "lots/2", "lots/3"):
            peer.share(name, name.encode())
        disk.arm()
        events = control.RemoveFiles(iter([pb.RemoveCommand(names=["lots/"])]), metadata=peer.cookie, timeout=30)
        number = next(events).started.transfer
        assert disk.reached.wait(10)
        [status] = control.Status(pb.StatusRequest(), metadata=peer.cookie, timeout=10).transfers
        assert (status.kind, status.progress.files_total) == ("removal", 3)
        control.CancelTransfer(pb.CancelTransferRequest(transfer=number), metadata=peer.cookie, timeout=10)
        disk.let_go.set()
        results = [event.results for event in events]
        assert [file.name for each in results for file in each.removed] == ["lots/1"]
        assert [fault.code for each in results for fault in each.faults] == ["interrupted"]
        assert sorted(path.name for path in (peer.shared / "lots").iterdir()) == ["2", "3"]
