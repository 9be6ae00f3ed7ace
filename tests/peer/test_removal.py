"""What the arguments of a removal mean: names, folders and patterns over this peer's own files."""

from pathlib import Path

import pytest

import pserver_pb2 as pb
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

NAMES = ("a.jpg", "B.JPG", "trip/c.jpg", "trip/d.txt", "x[1].txt", "x1.txt", "odd*.txt", "oddly.txt")


def remove(peer: LivePserver, *names: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Names that are gone, and (code, what it is about) of what is not."""
    with peer.control() as control:
        reply = control.RemoveFiles(pb.RemoveFilesRequest(names=names), metadata=peer.cookie, timeout=30)
    return sorted(file.name for file in reply.removed), [(fault.code, fault.name) for fault in reply.faults]


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
