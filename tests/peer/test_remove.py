"""The remove command deletes the files that its names, folders and patterns mean."""

from pathlib import Path

import pytest

import pserver_pb2 as pb
from failing_disk import StuckDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

NAMES = ("a.jpg", "B.JPG", "trip/c.jpg", "trip/d.txt", "x[1].txt", "x1.txt", "odd*.txt", "oddly.txt")


def remove(peer: LivePserver, *names: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The removed names, and code and name of each fault."""
    with peer.control() as control:
        command = iter([pb.RemoveCommand(names=names)])
        results = [event.results for event in control.RemoveFiles(command, metadata=peer.cookie, timeout=30)]
    removed = sorted(file.name for each in results for file in each.removed)
    return removed, [(fault.code, fault.name) for each in results for fault in each.faults]


@pytest.mark.parametrize(
    ("names", "removed"),
    [
        (["a.jpg"], ["a.jpg"]),
        (["A.jpg"], ["a.jpg"]),
        (["TRIP/"], ["trip/c.jpg", "trip/d.txt"]),
        (["*.jpg"], ["B.JPG", "a.jpg", "trip/c.jpg"]),
        (["?.jpg", "trip/"], ["B.JPG", "a.jpg", "trip/c.jpg", "trip/d.txt"]),
        (["x[1].*"], ["x[1].txt"]),
        (["x?.txt"], ["x1.txt"]),
        # A file whose name is the pattern itself comes first.
        (["odd*.txt"], ["odd*.txt"]),
        (["odd*"], ["odd*.txt", "oddly.txt"]),
        # A file that several arguments mean is removed once, and no argument lacks it.
        (["trip/c.jpg", "trip/*", "trip/", "*/c.jpg"], ["trip/c.jpg", "trip/d.txt"]),
        (["jpg", "*.png", "trip"], []),
    ],
)
def test_names_folders_and_patterns_are_removed(
    tracker: LiveTracker, tmp_path: Path, names: list[str], removed: list[str]
) -> None:
    with live_pserver(tmp_path, tracker) as peer:
        for name in NAMES:
            peer.share(name, name.encode())
        assert remove(peer, *names) == (removed, [] if removed else [("no_such_file", name) for name in names])
        left = [name for name in NAMES if (peer.shared / name).exists()]
        assert left == [name for name in NAMES if name not in removed]


def test_a_cancelled_removal_stops_between_two_files_and_reports_the_removed_ones(
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
        disk.resume.set()
        results = [event.results for event in events]
        assert [file.name for each in results for file in each.removed] == ["lots/1"]
        assert [fault.code for each in results for fault in each.faults] == ["interrupted"]
        assert sorted(path.name for path in (peer.shared / "lots").iterdir()) == ["2", "3"]


def test_each_result_names_the_arguments_that_mean_it(tracker: LiveTracker, tmp_path: Path) -> None:
    with live_pserver(tmp_path, tracker) as peer, peer.control() as control:
        for name in ("trip/c.jpg", "trip/d.txt"):
            peer.share(name, b"content")
        command = iter([pb.RemoveCommand(names=["none", "trip/*", "trip/c.jpg", "none"])])
        results = [event.results for event in control.RemoveFiles(command, metadata=peer.cookie, timeout=30)]
    assert {file.name: list(file.arguments) for each in results for file in each.removed} == {
        "trip/c.jpg": [1, 2],
        "trip/d.txt": [1],
    }
    assert {fault.name: list(fault.arguments) for each in results for fault in each.faults} == {"none": [0, 3]}
