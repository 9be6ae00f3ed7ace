"""What the index says of a file is what others said: a lie about its size costs time at most."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import pserver_pb2 as pb
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20


@pytest.fixture(scope="module")
def ben(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(folder / "ben", tracker, "ben") as live:
        yield live


def announce(tracker: LiveTracker, user: str, port: int, *files: dict[str, Any]) -> None:
    """A peer of `user` says that it has these files; nobody listens there."""
    login = {"username": user, "password": "x", "url": f"127.0.0.1:{port}"}
    token = requests.post(f"{tracker.url}/login", json=login, timeout=5).json()["token"]
    body: Any = {"version": "1", "files": [{"complete": True, **file} for file in files]}
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.put(f"{tracker.url}/index", json=body, headers=headers, timeout=5).status_code == 200


def download(ben: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """What an order brought, and what it did not."""
    with ben.control() as control:
        order = pb.DownloadCommand(names=names)
        events = list(control.DownloadFileRequest(iter([order]), metadata=ben.cookie, timeout=60))
    results = [event.results for event in events]
    return (
        list(itertools.chain.from_iterable(result.downloaded for result in results)),
        list(itertools.chain.from_iterable(result.faults for result in results)),
    )


@pytest.mark.parametrize(("size", "lie"), [(3 * MIB, 5), (3 * MIB, 2**63 - 1), (5, 2 * MIB)])
def test_a_file_comes_whatever_size_most_peers_say_it_has(
    tracker: LiveTracker, ana: LivePserver, ben: LivePserver, size: int, lie: int
) -> None:
    name, content = f"{size}-{lie}.bin", os.urandom(size)
    manifest = ana.share(name, content)
    ana.call(ana.pserver.announcer.sync())
    for number in range(2):
        announce(tracker, f"liar{number}", 1 + number, {"name": name, "id": manifest.id, "size": lie})
    [downloaded], faults = download(ben, name)
    assert faults == []
    assert (downloaded.size, (ben.shared / name).read_bytes()) == (size, content)


def test_sizes_beyond_all_numbers_are_shown_as_the_largest(tracker: LiveTracker, ben: LivePserver) -> None:
    files = [{"name": f"vast/{n}", "id": f"{n:064x}", "size": 2**63 - 1} for n in range(3)]
    announce(tracker, "liar", 3, *files)
    with ben.control() as control:
        events = control.DownloadFileRequest(
            iter([pb.DownloadCommand(names=["vast/"])]), metadata=ben.cookie, timeout=60
        )
        totals = (event.progress.total for event in events if event.HasField("progress"))
        assert next(total for total in totals if total) == 2**64 - 1
        assert len(control.Status(pb.StatusRequest(), metadata=ben.cookie, timeout=10).transfers) == 1
        for transfer in control.Status(pb.StatusRequest(), metadata=ben.cookie, timeout=10).transfers:
            control.CancelTransfer(pb.CancelTransferRequest(transfer=transfer.transfer), metadata=ben.cookie)
