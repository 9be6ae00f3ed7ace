"""Files that other peers push: checked before the first byte arrives, and never ahead of this peer's own user."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest
from daemon.transfer.push_receiver import PushReceiver
from daemon.transfer.replica_quota import MAX_ABANDONED_PARTS
from eventually import eventually
from failing_disk import StuckDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker
from push_client import Push, offer, parts
from swarm_files import manifest_of

MIB = 1 << 20
QUOTA = 8 * MIB


@pytest.fixture(scope="module")
def ben(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer with a quota of 8 MiB."""
    with live_pserver(folder / "ben", tracker, "ben", quota=QUOTA) as live:
        yield live


@pytest.fixture(autouse=True)
def no_stream_is_left(ben: LivePserver) -> Iterator[None]:
    yield
    eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    assert ben.pserver.replica_quota.incoming_bytes == 0


def test_a_push_is_requested_verified_and_published(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    content = os.urandom(2 * MIB + 5)
    manifest = manifest_of(content)
    push = Push(ben, manifest.id, stack)
    push.send(offer("taken.bin", manifest))
    while not (response := push.receive()).published:
        for piece in response.pieces:
            at = piece * MIB
            push.send(encode([Block(piece, 0, content[at : at + manifest.length(piece)])]))
    assert (ben.shared / "taken.bin").read_bytes() == content
    assert (ben.shared / "taken.bin").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", ".bashrc", "a/../../b", "CON", "a\x00b", "a\u202eb", "x" * 201, "", "a/"]
)
def test_a_bad_name_is_refused_before_anything_is_created(
    ben: LivePserver, stack: contextlib.ExitStack, name: str
) -> None:
    manifest = manifest_of(os.urandom(2 * MIB))
    push = Push(ben, manifest.id, stack)
    push.send(offer(name, manifest))
    assert push.error() == (grpc.StatusCode.INVALID_ARGUMENT, "bad_name")
    assert parts(ben) == []


def test_a_file_with_other_content_under_the_name_is_not_changed(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    ben.share("mine.bin", b"mine")
    manifest = manifest_of(os.urandom(2 * MIB))
    for name in ("mine.bin", "MINE.BIN"):
        push = Push(ben, manifest.id, stack)
        push.send(offer(name, manifest))
        assert push.error() == (grpc.StatusCode.ALREADY_EXISTS, "target_exists")
    assert (ben.shared / "mine.bin").read_bytes() == b"mine"


@pytest.fixture(scope="module")
def unscanned(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer whose first scan is over and whose next one is far away: a file that is written now is not shared."""
    old = folder / "eli" / "shared" / "old.txt"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    os.utime(old, (0, 0))
    with live_pserver(folder / "eli", tracker, "eli", ping_interval=300) as live:
        eventually(lambda: live.pserver.library.by_name("old.txt"))
        yield live


@pytest.mark.parametrize("size", [MIB, 2 * MIB])
def test_a_push_does_not_share_a_file_that_is_being_written(
    unscanned: LivePserver, stack: contextlib.ExitStack, size: int
) -> None:
    name = f"report{size}.bin"
    (unscanned.shared / name).write_bytes(bytes(size))
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(unscanned, manifest.id, stack)
    push.send(offer(name, manifest))
    assert push.error() == (grpc.StatusCode.ALREADY_EXISTS, "target_exists")
    assert unscanned.pserver.library.by_name(name) is None


def test_a_changed_file_does_not_count_as_the_pushed_content(
    unscanned: LivePserver, stack: contextlib.ExitStack
) -> None:
    before = unscanned.share("changed.bin", os.urandom(2 * MIB))
    (unscanned.shared / "changed.bin").write_bytes(bytes(3 * MIB))
    push = Push(unscanned, before.id, stack)
    push.send(offer("another.bin", before))
    assert push.receive().pieces
    assert unscanned.pserver.library.by_name("changed.bin") is None


def test_a_file_that_was_not_scanned_yet_is_not_pushed_again(
    unscanned: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = manifest_of(content)
    (unscanned.shared / "killed.bin").write_bytes(content)
    push = Push(unscanned, manifest.id, stack)
    push.send(offer("killed.bin", manifest))
    assert push.receive().published
    assert [held.name for held in unscanned.pserver.library.by_id(manifest.id)] == ["killed.bin"]


def test_a_file_over_the_quota_is_refused_before_its_first_byte(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    digests = os.urandom(32 * 9)
    manifest = Manifest(9 * MIB, MIB, digests)
    push = Push(ben, manifest.id, stack)
    push.send(offer("large.bin", manifest))
    assert push.error() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")
    assert parts(ben) == []


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"size": 5 * MIB}, grpc.StatusCode.DATA_LOSS, "not_verified"),
        ({"size": 2**64 - 1}, grpc.StatusCode.DATA_LOSS, "not_verified"),
        ({"piece_length": 1}, grpc.StatusCode.DATA_LOSS, "not_verified"),
        ({"piece_length": 0}, grpc.StatusCode.DATA_LOSS, "not_verified"),
        ({"digests": b"x" * 64}, grpc.StatusCode.DATA_LOSS, "not_verified"),
        ({"digests": b""}, grpc.StatusCode.DATA_LOSS, "not_verified"),
    ],
)
def test_a_manifest_that_does_not_match_the_ticket_is_refused(
    ben: LivePserver, stack: contextlib.ExitStack, change: dict[str, Any], status: grpc.StatusCode, code: str
) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    words = {"size": manifest.size, "piece_length": MIB, "digests": manifest.digests, **change}
    push = Push(ben, manifest.id, stack)
    push.send(pb.PushRequest(offer=pb.Offer(name="x.bin", manifest=pb.Manifest(**words))).SerializeToString())
    assert push.error() == (status, code)
    assert parts(ben) == []


def test_a_corrupt_piece_aborts_the_push_at_once(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(ben, manifest.id, stack)
    push.send(offer("corrupt.bin", manifest))
    piece = push.receive().pieces[0]
    push.send(encode([Block(piece, 0, bytes(MIB))]))
    assert push.error() == (grpc.StatusCode.DATA_LOSS, "not_verified")
    assert not (ben.shared / "corrupt.bin").exists()


@pytest.mark.parametrize(
    "block", [Block(77, 0, b"x"), Block(0, 5, b"x"), Block(0, 0, b""), Block(2**32 - 1, 0, bytes(MIB))]
)
def test_blocks_that_were_not_requested_abort_the_push(
    ben: LivePserver, stack: contextlib.ExitStack, block: Block
) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(ben, manifest.id, stack)
    push.send(offer("odd.bin", manifest))
    push.receive()
    push.send(encode([block]))
    assert push.error() == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")


def test_abandoned_parts_do_not_exceed_the_quota(ben: LivePserver) -> None:
    for number in range(6):
        with contextlib.ExitStack() as stack:
            manifest = Manifest(3 * MIB, MIB, os.urandom(96))
            push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
            push.send(offer(f"begun{number}.bin", manifest))
            push.receive()
            push.call.cancel()
        eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    assert sum(path.stat().st_size for path in parts(ben)) <= QUOTA
    assert ben.pserver.replica_quota.used <= QUOTA


def abandon_push(ben: LivePserver, manifest: Manifest, number: int) -> None:
    """Push a file, and leave when the receiver has created its part."""
    with contextlib.ExitStack() as stack:
        push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
        push.send(offer(f"broken{number}.bin", manifest))
        push.receive()
        push.call.cancel()
    eventually(lambda: ben.pserver.stream_slots.in_use == 0)


def test_the_part_of_a_local_download_is_not_evicted_by_pushes(tmp_path: Path, tracker: LiveTracker) -> None:
    content = os.urandom(3 * MIB)
    manifest = manifest_of(content)
    with live_pserver(tmp_path / "fay", tracker, "fay", quota=QUOTA) as fay:
        with fay.pserver.part_store.open(manifest, "name") as part:
            part.store(1, [content[MIB : 2 * MIB]])
        abandon_push(fay, manifest, 0)
        assert fay.pserver.replica_quota.used == 0
        for number in range(1, 4):
            abandon_push(fay, Manifest(3 * MIB, MIB, os.urandom(96)), number)
        with fay.pserver.part_store.open(manifest, "name") as part:
            assert part.resumed_bytes == MIB


def test_an_abandoned_part_belongs_to_the_local_download_that_continues_it(
    tmp_path: Path, tracker: LiveTracker
) -> None:
    manifest = Manifest(3 * MIB, MIB, os.urandom(96))

    async def fail_while_waiting(receiver: PushReceiver) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with receiver.prioritise_local(manifest.id):
                raise ZeroDivisionError

    async def acquire(receiver: PushReceiver) -> None:
        async with receiver.prioritise_local(manifest.id):
            pass

    with live_pserver(tmp_path / "gus", tracker, "gus", quota=QUOTA) as gus:
        abandon_push(gus, manifest, 0)
        receiver = gus.pserver.transfer_service.push_receiver
        gus.call(fail_while_waiting(receiver))
        assert gus.pserver.replica_quota.used == 3 * MIB
        gus.call(acquire(receiver))
        assert gus.pserver.replica_quota.used == 0
        assert [part.name for part in parts(gus)] == [f"{manifest.id}.part"]


def test_abandoned_parts_are_known_after_a_restart(tmp_path: Path, tracker: LiveTracker) -> None:
    home = tmp_path / "hal"
    with live_pserver(home, tracker, "hal", quota=QUOTA) as hal:
        for number in range(2):
            abandon_push(hal, Manifest(3 * MIB, MIB, os.urandom(96)), number)
        lost = Manifest(MIB, MIB, os.urandom(32))
        abandon_push(hal, lost, 2)
        hal.pserver.part_store.discard(lost.id)
    users = Manifest(2 * MIB, MIB, os.urandom(64))
    with live_pserver(home, tracker, "", quota=QUOTA) as hal:
        eventually(lambda: hal.pserver.account.user)
        assert hal.pserver.replica_quota.used == 6 * MIB
        hal.pserver.part_store.open(users, "name").close()
        abandon_push(hal, Manifest(3 * MIB, MIB, os.urandom(96)), 3)
        assert sum(part.stat().st_size for part in parts(hal)) == (6 + 2) * MIB
    with live_pserver(home, tracker, "", quota=QUOTA) as hal:
        assert hal.pserver.replica_quota.used == 6 * MIB
        assert hal.pserver.manifest_cache.incoming_parts().keys() == hal.pserver.replica_quota.abandoned_parts
        assert users.id not in hal.pserver.replica_quota.abandoned_parts


def test_abandoned_parts_of_tiny_files_are_limited_in_number(ben: LivePserver) -> None:
    for number in range(MAX_ABANDONED_PARTS + 5):
        with contextlib.ExitStack() as stack:
            manifest = Manifest(1, MIB, os.urandom(32))
            push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
            push.send(offer(f"tiny{number}.bin", manifest))
            push.receive()
            push.call.cancel()
        eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    # The last push started when the limit was reached, and was abandoned afterwards.
    assert len(parts(ben)) <= MAX_ABANDONED_PARTS + 1


def downloaded(peer: LivePserver, name: str) -> list[str]:
    """Download a name; return the names of the downloaded files."""
    with peer.control() as control:
        command = pb.DownloadCommand(names=[name])
        events = list(control.DownloadFileRequest(iter([command]), metadata=peer.cookie, timeout=20))
    return [result.name for event in events for result in event.results.downloaded]


def test_a_slow_push_gives_way_to_a_local_download(
    ben: LivePserver, ana: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = ana.share("wanted.bin", content)
    ana.call(ana.pserver.announcer.sync())
    push = Push(ben, manifest.id, stack)
    push.send(offer("wanted.bin", manifest))
    push.receive()
    assert downloaded(ben, "wanted.bin") == ["wanted.bin"]
    assert push.error() == (grpc.StatusCode.ABORTED, "interrupted")


def test_a_queued_push_gives_way_to_a_local_download_at_once(
    ben: LivePserver, ana: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = ana.share("wanted2.bin", content)
    ana.call(ana.pserver.announcer.sync())
    first = Push(ben, manifest.id, stack)
    first.send(offer("wanted2.bin", manifest))
    first.receive()
    second = Push(ben, manifest.id, stack, requester="b" * 32)
    second.send(offer("wanted2.bin", manifest))
    locks = ben.pserver.transfer_service.push_receiver.content_locks
    eventually(lambda: locks.users(manifest.id) == 2)
    assert downloaded(ben, "wanted2.bin") == ["wanted2.bin"]
    for push in (first, second):
        assert push.error() == (grpc.StatusCode.ABORTED, "interrupted")
    assert not ben.pserver.transfer_service.push_receiver.local_waiters


def test_a_push_cancelled_during_publication_counts_once(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = manifest_of(content)
    disk = StuckDisk("fsync")
    with live_pserver(tmp_path / "cem", tracker, "cem", disk=disk, quota=QUOTA) as cem:
        push = Push(cem, manifest.id, stack)
        push.send(offer("late.bin", manifest))
        disk.arm()
        sent = 0
        while sent < manifest.piece_count:
            for piece in push.receive().pieces:
                push.send(encode([Block(piece, 0, content[piece * MIB : (piece + 1) * MIB])]))
                sent += 1
        assert disk.reached.wait(10)
        # Closes all streams.
        cem.call(cem.pserver.account.logout())
        disk.resume.set()
        eventually(lambda: cem.pserver.library.by_name("late.bin"))
        eventually(lambda: cem.pserver.replica_quota.incoming_bytes == 0)
        assert cem.pserver.manifest_cache.replica_usage().bytes == cem.pserver.replica_quota.used == 2 * MIB


def test_a_part_that_is_being_evicted_is_not_reused(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest, other = manifest_of(content), Manifest(3 * MIB, MIB, os.urandom(96))
    disk = StuckDisk("unlink")
    with live_pserver(tmp_path / "dee", tracker, "dee", disk=disk, quota=4 * MIB) as dee:
        with contextlib.ExitStack() as broken:
            push = Push(dee, manifest.id, broken)
            push.send(offer("again.bin", manifest))
            push.receive()
        eventually(lambda: dee.pserver.stream_slots.in_use == 0)
        disk.arm()
        # The quota needs its space.
        Push(dee, other.id, stack, requester="b" * 32).send(offer("other.bin", other))
        assert disk.reached.wait(10)
        again = Push(dee, manifest.id, stack)
        again.send(offer("again.bin", manifest))
        locks = dee.pserver.transfer_service.push_receiver.content_locks
        eventually(lambda: locks.users(manifest.id) == 2)
        disk.resume.set()
        assert again.error() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")
        assert [part.name for part in parts(dee)] == [f"{other.id}.part"]
