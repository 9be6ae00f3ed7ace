"""A copy of a shared file has the content of its id, or is not made."""

import os
from pathlib import Path

import pytest

import pserver_pb2 as pb
from bit_rot import flip_byte
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20


def copy(ana: LivePserver, name: str, output: str) -> list[str]:
    """The codes of the faults of a download of this peer's own file."""
    with ana.control() as control:
        command = pb.DownloadCommand(names=[name], output=output)
        events = list(control.DownloadFileRequest(iter([command]), metadata=ana.cookie, timeout=20))
    return [fault.code for event in events for fault in event.results.faults]


@pytest.mark.parametrize("size", [1, 9 * MIB])
def test_a_file_that_is_corrupt_but_kept_its_fingerprint_is_not_copied(
    tracker: LiveTracker, in_memory: Path, tmp_path: Path, size: int
) -> None:
    name, content = f"{size}.bin", os.urandom(size)
    with live_pserver(in_memory, tracker, f"max{size}") as max_:
        max_.share(name, content)
        max_.call(max_.pserver.announcer.sync())
        assert copy(max_, name, str(tmp_path / "good.bin")) == []
        assert (tmp_path / "good.bin").read_bytes() == content
        flip_byte(max_.shared / name, size - 1)
        assert copy(max_, name, "inside.bin") == copy(max_, name, str(tmp_path / "bad.bin")) == ["no_such_file"]
        assert not (max_.shared / "inside.bin").exists()
        assert [entry.name for entry in tmp_path.iterdir()] == ["good.bin"]
        assert list((max_.shared / ".p2p").iterdir()) == []
