"""A copy of a shared file has the content of its id, or is not made."""

import os
from pathlib import Path

import pytest

import pserver_pb2 as pb
from live_pserver import LivePserver

MIB = 1 << 20


def copy(ana: LivePserver, name: str, output: str) -> list[str]:
    """The codes of the faults of a download of this peer's own file."""
    with ana.control() as control:
        command = pb.DownloadCommand(names=[name], output=output)
        events = list(control.DownloadFileRequest(iter([command]), metadata=ana.cookie, timeout=20))
    return [fault.code for event in events for fault in event.results.faults]


def flip_last_byte(path: Path) -> None:
    """Corrupt a file as a failing disk does: its time stays."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("size", [1, 9 * MIB])
def test_a_file_that_is_corrupt_but_kept_its_fingerprint_is_not_copied(
    ana: LivePserver, tmp_path: Path, size: int
) -> None:
    name, inside = f"{size}.bin", ana.shared / f"copy{size}.bin"
    content = os.urandom(size)
    ana.share(name, content)
    ana.call(ana.pserver.announcer.sync())
    assert copy(ana, name, str(tmp_path / "good.bin")) == []
    assert (tmp_path / "good.bin").read_bytes() == content
    flip_last_byte(ana.shared / name)
    assert copy(ana, name, inside.name) == copy(ana, name, str(tmp_path / "bad.bin")) == ["no_such_file"]
    assert not inside.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["good.bin"]
    assert list((ana.shared / ".p2p").iterdir()) == []
