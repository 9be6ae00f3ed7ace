"""Sizes in the index come from peers: a wrong size costs time at most."""

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
    """Announce files of a peer at a port where nothing listens."""
    login = {"username": user, "password": "x", "url": f"127.0.0.1:{port}"}
    token = requests.post(f"{tracker.url}/login", json=login, timeout=5).json()["token"]
    body: Any = {"version": "1", "files": [{"complete": True, **file} for file in files]}
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.put(f"{tracker.url}/index", json=body, headers=headers, timeout=5).status_code == 200


def download(ben: LivePserver, *names: str) -> tuple[list[Any], list[Any]]:
    """The downloaded files and the faults of a download."""
    with ben.control() as control:
        command = pb.DownloadCommand(names=names)
        events = list(control.DownloadFileRequest(iter([command]), metadata=ben.cookie, timeout=60))
    results = [event.results for event in events]
    return (
        list(itertools.chain.from_iterable(result.downloaded for result in results)),
        list(itertools.chain.from_iterable(result.faults for result in results)),
    )


@pytest.mark.parametrize(("size", "wrong_size"), [(3 * MIB, 5), (3 * MIB, 2**63 - 1), (5, 2 * MIB)])
def test_a_file_is_downloaded_whatever_size_most_peers_announce(
    tracker: LiveTracker, ana: LivePserver, ben: LivePserver, size: int, wrong_size: int
) -> None:
    name, content = f"{size}-{wrong_size}.bin", os.urandom(size)
    manifest = ana.share(name, content)
    ana.call(ana.pserver.announcer.sync())
    for number in range(2):
        announce(tracker, f"mallory{number}", 1 + number, {"name": name, "id": manifest.id, "size": wrong_size})
    [downloaded], faults = download(ben, name)
    assert faults == []
    assert (downloaded.size, (ben.shared / name).read_bytes()) == (size, content)


def test_a_sum_of_sizes_beyond_64_bits_is_shown_as_the_largest_number(tracker: LiveTracker, ben: LivePserver) -> None:
    files = [{"name": f"vast/{n}", "id": f"{n:064x}", "size": 2**63 - 1} for n in range(3)]
    announce(tracker, "mallory", 3, *files)
    with ben.control() as control:
        events = control.DownloadFileRequest(
            iter([pb.DownloadCommand(names=["vast/"])]), metadata=ben.cookie, timeout=60
        )
        totals = (event.progress.total for event in events if event.HasField("progress"))
        assert next(total for total in totals if total) == 2**64 - 1
        assert len(control.Status(pb.StatusRequest(), metadata=ben.cookie, timeout=10).transfers) == 1
        for transfer in control.Status(pb.StatusRequest(), metadata=ben.cookie, timeout=10).transfers:
            control.CancelTransfer(pb.CancelTransferRequest(transfer=transfer.transfer), metadata=ben.cookie)
