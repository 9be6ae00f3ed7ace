"""A pserver whose shared folder is read-only refuses pushes before it asks for bytes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import file_systems
import pserver_pb2 as pb
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker
from push_client import Push, offer, push_small, small_offers
from swarm_files import manifest_of

pytestmark = pytest.mark.filesystems

MIB = 1 << 20


@pytest.fixture
def read_only(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "old.txt").write_bytes(b"old")
    os.utime(source / "old.txt", (0, 0))
    with file_systems.bind(source, tmp_path / "peer" / "shared") as shared:
        file_systems.remount(shared, "ro")
        with live_pserver(tmp_path / "peer", tracker, "ben") as live:
            yield live


def test_a_push_is_refused_with_one_line_and_no_path(read_only: LivePserver, stack: contextlib.ExitStack) -> None:
    manifest = manifest_of(os.urandom(2 * MIB))
    push = Push(read_only, manifest.id, stack)
    push.send(offer("new.bin", manifest))
    assert push.error() == (grpc.StatusCode.ABORTED, "io")
    assert push.call.details() == "the shared folder of this peer is read-only: ask another peer"
    [verdict] = push_small(read_only, small_offers(read_only, (1, "new.txt", b"new")))
    assert verdict.verdict == pb.SmallFileVerdict.VERDICT_REFUSED
    assert (verdict.code, verdict.message) == ("io", push.call.details())
    assert read_only.pserver.replica_quota.used == 0


def test_content_that_is_here_already_is_not_refused(read_only: LivePserver) -> None:
    eventually(lambda: read_only.pserver.library.by_name("old.txt"))
    [verdict] = push_small(read_only, small_offers(read_only, (1, "old.txt", b"old")))
    assert verdict.verdict == pb.SmallFileVerdict.VERDICT_PUBLISHED
