"""Files pushed to a peer by strangers: named, sized and weighed before a byte is taken, and never in its user's way."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.errors import QuotaExceeded
from daemon.library.manifest_cache import ManifestCache
from daemon.protocol.frames import Block, encode
from daemon.runtime.executors import Threads
from daemon.storage.manifest import Manifest
from daemon.transfer.batch_serve import MAX_UNPUBLISHED_BYTES
from daemon.transfer.push_receiver import PushReceiver
from daemon.transfer.replica_quota import MAX_ABANDONED_PARTS, MIN_ENTRIES, ReplicaQuota
from eventually import eventually
from failing_disk import StuckDisk
from live_pserver import LivePserver, code_of, live_pserver
from live_tracker import LiveTracker
from swarm_files import manifest_of
from ticket_signer import WRITE

MIB = 1 << 20
QUOTA = 8 * MIB


@pytest.fixture(scope="module")
def ben(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer that takes 8 MiB from others."""
    with live_pserver(folder / "ben", tracker, "ben", quota=QUOTA) as live:
        yield live


@pytest.fixture(autouse=True)
def nothing_half_done(ben: LivePserver) -> Iterator[None]:
    yield
    eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    assert ben.pserver.replica_quota.incoming_bytes == 0


def offer(name: str, manifest: Manifest) -> bytes:
    wire = pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)
    return pb.PushRequest(offer=pb.Offer(name=name, manifest=wire)).SerializeToString()


class Push:
    """A pusher that says what it is told to."""

    def __init__(self, ben: LivePserver, id_: str, stack: contextlib.ExitStack, requester: str = "a" * 32) -> None:
        self._say: list[bytes] = []
        self._more = threading.Semaphore(0)
        channel = stack.enter_context(ben.channel())
        self.call: Any = channel.stream_stream("/p2p.v1.Transfer/UploadFile")(
            self._requests(), metadata=ben.ticket(id_, WRITE, requester=requester), timeout=30
        )
        stack.callback(self._more.release)
        stack.callback(self.call.cancel)

    def _requests(self) -> Iterator[bytes]:
        while self._more.acquire() and self._say:
            yield self._say.pop(0)

    def say(self, message: bytes) -> None:
        self._say.append(message)
        self._more.release()

    def hear(self) -> Any:
        """The next reply that asks for something or ends it."""
        for reply in self.call:
            read = pb.PushResponse.FromString(reply)
            if read.pieces or read.published:
                return read
        raise AssertionError("ended")

    def end(self) -> tuple[grpc.StatusCode, str]:
        """How the receiver ended it."""
        with pytest.raises(grpc.RpcError) as error:
            for _ in self.call:
                pass
        return code_of(error.value)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def parts(ben: LivePserver) -> list[Path]:
    return [path for path in ben.shared.rglob("*.part") if path.is_file()]


def test_a_push_is_asked_for_verified_and_published(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    content = os.urandom(2 * MIB + 5)
    manifest = manifest_of(content)
    push = Push(ben, manifest.id, stack)
    push.say(offer("taken.bin", manifest))
    while not (reply := push.hear()).published:
        for piece in reply.pieces:
            at = piece * MIB
            push.say(encode([Block(piece, 0, content[at : at + manifest.length(piece)])]))
    assert (ben.shared / "taken.bin").read_bytes() == content
    assert (ben.shared / "taken.bin").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", ".bashrc", "a/../../b", "CON", "a\x00b", "a\u202eb", "x" * 201, "", "a/"]
)
def test_a_name_is_judged_before_anything_is_made(ben: LivePserver, stack: contextlib.ExitStack, name: str) -> None:
    manifest = manifest_of(os.urandom(2 * MIB))
    push = Push(ben, manifest.id, stack)
    push.say(offer(name, manifest))
    assert push.end() == (grpc.StatusCode.INVALID_ARGUMENT, "bad_name")
    assert parts(ben) == []


def test_other_contents_under_the_name_are_not_touched(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    ben.share("mine.bin", b"mine")
    manifest = manifest_of(os.urandom(2 * MIB))
    for name in ("mine.bin", "MINE.BIN"):
        push = Push(ben, manifest.id, stack)
        push.say(offer(name, manifest))
        assert push.end() == (grpc.StatusCode.ALREADY_EXISTS, "target_exists")
    assert (ben.shared / "mine.bin").read_bytes() == b"mine"


@pytest.fixture(scope="module")
def unscanned(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer that does not look through its folder while it is tested: what was written just now is not at rest."""
    with live_pserver(folder / "eli", tracker, "eli", ping_interval=300) as live:
        eventually(lambda: not live.pserver.scanner._first)
        yield live


@pytest.mark.parametrize("size", [MIB, 2 * MIB])
def test_a_push_has_nothing_shared_that_is_not_at_rest(
    unscanned: LivePserver, stack: contextlib.ExitStack, size: int
) -> None:
    name = f"report{size}.bin"
    (unscanned.shared / name).write_bytes(bytes(size))
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(unscanned, manifest.id, stack)
    push.say(offer(name, manifest))
    assert push.end() == (grpc.StatusCode.ALREADY_EXISTS, "target_exists")
    assert unscanned.pserver.library.by_name(name) is None


def test_what_a_push_makes_of_a_file_that_changed_is_nothing(
    unscanned: LivePserver, stack: contextlib.ExitStack
) -> None:
    before = unscanned.share("changed.bin", os.urandom(2 * MIB))
    (unscanned.shared / "changed.bin").write_bytes(bytes(3 * MIB))
    push = Push(unscanned, before.id, stack)
    push.say(offer("another.bin", before))
    assert push.hear().pieces
    assert unscanned.pserver.library.by_name("changed.bin") is None


def test_what_is_pushed_and_lies_here_unseen_is_not_sent_again(
    unscanned: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = manifest_of(content)
    (unscanned.shared / "killed.bin").write_bytes(content)
    push = Push(unscanned, manifest.id, stack)
    push.say(offer("killed.bin", manifest))
    assert push.hear().published
    assert [held.name for held in unscanned.pserver.library.by_id(manifest.id)] == ["killed.bin"]


def test_a_file_beyond_the_quota_is_refused_before_its_first_byte(
    ben: LivePserver, stack: contextlib.ExitStack
) -> None:
    digests = os.urandom(32 * 9)
    manifest = Manifest(9 * MIB, MIB, digests)
    push = Push(ben, manifest.id, stack)
    push.say(offer("large.bin", manifest))
    assert push.end() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")
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
def test_a_manifest_that_is_not_the_tickets_is_refused(
    ben: LivePserver, stack: contextlib.ExitStack, change: dict[str, Any], status: grpc.StatusCode, code: str
) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    words = {"size": manifest.size, "piece_length": MIB, "digests": manifest.digests, **change}
    push = Push(ben, manifest.id, stack)
    push.say(pb.PushRequest(offer=pb.Offer(name="x.bin", manifest=pb.Manifest(**words))).SerializeToString())
    assert push.end() == (status, code)
    assert parts(ben) == []


def test_bytes_that_do_not_verify_end_the_push_at_once(ben: LivePserver, stack: contextlib.ExitStack) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(ben, manifest.id, stack)
    push.say(offer("lie.bin", manifest))
    piece = push.hear().pieces[0]
    push.say(encode([Block(piece, 0, bytes(MIB))]))
    assert push.end() == (grpc.StatusCode.DATA_LOSS, "not_verified")
    assert not (ben.shared / "lie.bin").exists()


@pytest.mark.parametrize(
    "block", [Block(77, 0, b"x"), Block(0, 5, b"x"), Block(0, 0, b""), Block(2**32 - 1, 0, bytes(MIB))]
)
def test_blocks_that_nobody_asked_for_end_the_push(ben: LivePserver, stack: contextlib.ExitStack, block: Block) -> None:
    manifest = Manifest(2 * MIB, MIB, os.urandom(64))
    push = Push(ben, manifest.id, stack)
    push.say(offer("odd.bin", manifest))
    push.hear()
    push.say(encode([block]))
    assert push.end() == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")


def test_beginnings_without_end_do_not_fill_the_disk(ben: LivePserver) -> None:
    for number in range(6):
        with contextlib.ExitStack() as stack:
            manifest = Manifest(3 * MIB, MIB, os.urandom(96))
            push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
            push.say(offer(f"begun{number}.bin", manifest))
            push.hear()
            push.call.cancel()
        eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    assert sum(path.stat().st_size for path in parts(ben)) <= QUOTA
    assert ben.pserver.replica_quota.used <= QUOTA


def begin_and_break_off(ben: LivePserver, manifest: Manifest, number: int) -> None:
    """Push a file, and go when the receiver has begun."""
    with contextlib.ExitStack() as stack:
        push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
        push.say(offer(f"broken{number}.bin", manifest))
        push.hear()
        push.call.cancel()
    eventually(lambda: ben.pserver.stream_slots.in_use == 0)


def test_what_our_users_download_has_left_is_no_pushers_to_have_thrown_away(
    tmp_path: Path, tracker: LiveTracker
) -> None:
    content = os.urandom(3 * MIB)
    manifest = manifest_of(content)
    with live_pserver(tmp_path / "fay", tracker, "fay", quota=QUOTA) as fay:
        with fay.pserver.part_store.open(manifest) as part:
            part.store(1, [content[MIB : 2 * MIB]])
        begin_and_break_off(fay, manifest, 0)
        assert fay.pserver.replica_quota.used == 0
        for number in range(1, 4):
            begin_and_break_off(fay, Manifest(3 * MIB, MIB, os.urandom(96)), number)
        with fay.pserver.part_store.open(manifest) as part:
            assert part.resumed_bytes == MIB


def test_what_a_push_has_left_is_our_users_who_goes_on_with_it(tmp_path: Path, tracker: LiveTracker) -> None:
    manifest = Manifest(3 * MIB, MIB, os.urandom(96))

    async def wait_in_vain(receiver: PushReceiver) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with receiver.prioritise_local(manifest.id):
                raise ZeroDivisionError

    async def have_ones_turn(receiver: PushReceiver) -> None:
        async with receiver.prioritise_local(manifest.id):
            pass

    with live_pserver(tmp_path / "gus", tracker, "gus", quota=QUOTA) as gus:
        begin_and_break_off(gus, manifest, 0)
        receiver = gus.pserver.transfer_service.push_receiver
        gus.call(wait_in_vain(receiver))
        assert gus.pserver.replica_quota.used == 3 * MIB
        gus.call(have_ones_turn(receiver))
        assert gus.pserver.replica_quota.used == 0
        assert [part.name for part in parts(gus)] == [f"{manifest.id}.part"]


def test_a_restart_forgets_nothing_of_what_pushes_have_left(tmp_path: Path, tracker: LiveTracker) -> None:
    home = tmp_path / "hal"
    with live_pserver(home, tracker, "hal", quota=QUOTA) as hal:
        for number in range(2):
            begin_and_break_off(hal, Manifest(3 * MIB, MIB, os.urandom(96)), number)
        lost = Manifest(MIB, MIB, os.urandom(32))
        begin_and_break_off(hal, lost, 2)
        hal.pserver.part_store.discard(lost.id)
    users = Manifest(2 * MIB, MIB, os.urandom(64))
    with live_pserver(home, tracker, "", quota=QUOTA) as hal:
        eventually(lambda: hal.pserver.account.user)
        assert hal.pserver.replica_quota.used == 6 * MIB
        hal.pserver.part_store.open(users).close()
        begin_and_break_off(hal, Manifest(3 * MIB, MIB, os.urandom(96)), 3)
        assert sum(part.stat().st_size for part in parts(hal)) == (6 + 2) * MIB
    with live_pserver(home, tracker, "", quota=QUOTA) as hal:
        assert hal.pserver.replica_quota.used == 6 * MIB
        assert hal.pserver.manifest_cache.incoming_parts().keys() == hal.pserver.replica_quota.abandoned_parts
        assert users.id not in hal.pserver.replica_quota.abandoned_parts


def test_beginnings_of_next_to_nothing_do_not_pile_up(ben: LivePserver) -> None:
    for number in range(MAX_ABANDONED_PARTS + 5):
        with contextlib.ExitStack() as stack:
            manifest = Manifest(1, MIB, os.urandom(32))
            push = Push(ben, manifest.id, stack, requester=f"{number:032x}")
            push.say(offer(f"tiny{number}.bin", manifest))
            push.hear()
            push.call.cancel()
        eventually(lambda: ben.pserver.stream_slots.in_use == 0)
    # The last one began when there were as many as may be, and was left after.
    assert len(parts(ben)) <= MAX_ABANDONED_PARTS + 1


def test_crumbs_of_files_are_kept_in_a_bounded_number(tmp_path: Path) -> None:
    catalog = ManifestCache(tmp_path / "catalog.db", 0.0)
    keeping = ReplicaQuota(catalog, MIN_ENTRIES, Threads())
    catalog.record_replicas([(f"{number}", f"{number:064x}", 0) for number in range(MIN_ENTRIES - 1)])
    kept = catalog.replica_usage()
    with keeping.reserve("x", 0, kept), pytest.raises(QuotaExceeded, match="files"), keeping.reserve("x", 0, kept):
        pytest.fail("one more than it keeps")
    with keeping.reserve("x", 0, kept):
        assert keeping.used == 0
    catalog.close()


def test_the_folders_of_what_is_kept_count_too(tmp_path: Path) -> None:
    catalog = ManifestCache(tmp_path / "catalog.db", 0.0)
    keeping = ReplicaQuota(catalog, MIN_ENTRIES, Threads())
    catalog.record_replicas([(f"{number}/a/b", f"{number:064x}", 0) for number in range((MIN_ENTRIES - 4) // 3)])
    kept = catalog.replica_usage()
    with keeping.reserve("one/more", 0, kept), keeping.reserve("and/another", 0, kept):
        pass
    with keeping.reserve("one/more/there", 0, kept), pytest.raises(QuotaExceeded), keeping.reserve("a/b", 0, kept):
        pytest.fail("one more than it keeps")
    catalog.close()


def test_what_arrives_while_the_catalog_is_asked_is_counted_still(tmp_path: Path) -> None:
    catalog = ManifestCache(tmp_path / "catalog.db", 0.0)
    keeping = ReplicaQuota(catalog, 10, Threads())

    async def come() -> None:
        async with keeping.lock_usage() as kept:
            coming = contextlib.ExitStack()
            coming.enter_context(keeping.reserve("x", 6, kept))
        # It is published and kept while another pusher is judged, by what the catalog said before.
        catalog.replica_usage()
        judging = keeping.lock_usage()
        asked = asyncio.create_task(judging.__aenter__())
        await asyncio.sleep(0)
        coming.close()
        with pytest.raises(QuotaExceeded), keeping.reserve("x", 6, await asked):
            pytest.fail("more than it keeps")

    asyncio.run(come())
    catalog.close()


def test_the_loop_does_not_wait_for_a_catalog_that_is_busy(ben: LivePserver) -> None:
    catalog = ben.pserver.manifest_cache
    offered = offers(ben, (1, "patient.txt", b"patient"))
    with ThreadPoolExecutor(1) as pool:
        with catalog._lock:
            catalog._kept = None
            pushed = pool.submit(small, ben, offered, encode([Block(1, 0, b"patient")]))
            # Longer than it takes until the tracker is told of the room that is left.
            for _ in range(20):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), ben.loop).result(5)
            assert not pushed.done()
        assert [verdict.verdict for verdict in pushed.result()] == [1, 2]


def downloaded(peer: LivePserver, name: str) -> list[str]:
    """The names of what an order for one brings."""
    with peer.control() as control:
        order = pb.DownloadCommand(names=[name])
        events = list(control.DownloadFileRequest(iter([order]), metadata=peer.cookie, timeout=20))
    return [result.name for event in events for result in event.results.downloaded]


def test_a_pusher_that_takes_its_time_does_not_keep_our_user_from_the_file(
    ben: LivePserver, ana: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = ana.share("wanted.bin", content)
    ana.call(ana.pserver.announcer.sync())
    push = Push(ben, manifest.id, stack)
    push.say(offer("wanted.bin", manifest))
    push.hear()
    assert downloaded(ben, "wanted.bin") == ["wanted.bin"]
    assert push.end() == (grpc.StatusCode.ABORTED, "interrupted")


def test_a_second_pusher_whose_turn_comes_before_our_users_gives_way_at_once(
    ben: LivePserver, ana: LivePserver, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = ana.share("wanted2.bin", content)
    ana.call(ana.pserver.announcer.sync())
    first = Push(ben, manifest.id, stack)
    first.say(offer("wanted2.bin", manifest))
    first.hear()
    second = Push(ben, manifest.id, stack, requester="b" * 32)
    second.say(offer("wanted2.bin", manifest))
    locks = ben.pserver.transfer_service.push_receiver.locks
    eventually(lambda: locks.users(manifest.id) == 2)
    assert downloaded(ben, "wanted2.bin") == ["wanted2.bin"]
    for push in (first, second):
        assert push.end() == (grpc.StatusCode.ABORTED, "interrupted")
    assert not ben.pserver.transfer_service.push_receiver.local_waiters


def test_a_push_that_is_broken_off_while_it_is_published_counts_once(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest = manifest_of(content)
    disk = StuckDisk("fsync")
    with live_pserver(tmp_path / "cem", tracker, "cem", disk=disk, quota=QUOTA) as cem:
        push = Push(cem, manifest.id, stack)
        push.say(offer("late.bin", manifest))
        disk.arm()
        sent = 0
        while sent < manifest.piece_count:
            for piece in push.hear().pieces:
                push.say(encode([Block(piece, 0, content[piece * MIB : (piece + 1) * MIB])]))
                sent += 1
        assert disk.reached.wait(10)
        # Ends all streams.
        cem.call(cem.pserver.account.logout())
        disk.let_go.set()
        eventually(lambda: cem.pserver.library.by_name("late.bin"))
        eventually(lambda: cem.pserver.replica_quota.incoming_bytes == 0)
        assert cem.pserver.manifest_cache.replica_usage().bytes == cem.pserver.replica_quota.used == 2 * MIB


def test_what_is_being_thrown_away_is_not_taken_up_meanwhile(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    content = os.urandom(2 * MIB)
    manifest, other = manifest_of(content), Manifest(3 * MIB, MIB, os.urandom(96))
    disk = StuckDisk("unlink")
    with live_pserver(tmp_path / "dee", tracker, "dee", disk=disk, quota=4 * MIB) as dee:
        with contextlib.ExitStack() as broken:
            push = Push(dee, manifest.id, broken)
            push.say(offer("again.bin", manifest))
            push.hear()
        eventually(lambda: dee.pserver.stream_slots.in_use == 0)
        disk.arm()
        # Its room is needed.
        Push(dee, other.id, stack, requester="b" * 32).say(offer("other.bin", other))
        assert disk.reached.wait(10)
        again = Push(dee, manifest.id, stack)
        again.say(offer("again.bin", manifest))
        locks = dee.pserver.transfer_service.push_receiver.locks
        eventually(lambda: locks.users(manifest.id) == 2)
        disk.let_go.set()
        assert again.end() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")
        assert [part.name for part in parts(dee)] == [f"{other.id}.part"]


# small files


def small(ben: LivePserver, *messages: bytes, requester: str = "a" * 32) -> list[Any]:
    """The verdicts on what is pushed; raises what ends the stream."""
    with ben.channel() as channel:
        call = channel.stream_stream("/p2p.v1.Transfer/UploadSmallFiles")(
            iter(messages), metadata=ben.ticket("ab" * 32, WRITE, requester=requester), timeout=20
        )
        return [verdict for reply in call for verdict in pb.UploadSmallFilesResponse.FromString(reply).verdicts]


def offers(ben: LivePserver, *files: tuple[int, str, bytes], requester: str = "a" * 32) -> bytes:
    return pb.UploadSmallFilesRequest(
        offers=[
            pb.SmallFileOffer(
                number=number,
                name=name,
                size=len(content),
                ticket=ben.ticket(Manifest.of_bytes(content).id, WRITE, requester=requester)[0][1],
            )
            for number, name, content in files
        ]
    ).SerializeToString()


def test_small_files_are_taken_one_by_one(ben: LivePserver) -> None:
    verdicts = small(
        ben,
        offers(ben, (1, "small/a.txt", b"a"), (2, "../b.txt", b"b"), (3, "small/c.txt", b"c")),
        encode([Block(1, 0, b"a"), Block(3, 0, b"not c")]),
    )
    wanted, published, refused = (pb.SmallFileVerdict.VERDICT_WANTED, pb.SmallFileVerdict.VERDICT_PUBLISHED, 3)
    told = [(v.number, v.verdict, v.code) for v in verdicts]
    assert told[:3] == [(1, wanted, ""), (2, refused, "bad_name"), (3, wanted, "")]
    assert sorted(told[3:]) == [(1, published, ""), (3, refused, "bad_usage")]
    assert (ben.shared / "small/a.txt").read_bytes() == b"a"
    assert not (ben.shared / "small/c.txt").exists()


def test_room_is_held_for_what_is_coming_and_not_twice_for_what_came(ben: LivePserver) -> None:
    free = QUOTA - ben.pserver.manifest_cache.replica_usage().bytes
    size = min(700_000, (free - 1) // 8)
    for number in range(6):
        content = os.urandom(size)
        verdicts = small(ben, offers(ben, (1, f"room{number}", content)), encode([Block(1, 0, content)]))
        assert [v.verdict for v in verdicts] == [1, 2], verdicts
    # And within one stream.
    files = [(n, f"more{n}", os.urandom(1000)) for n in range(4)]
    messages = [m for n, name, c in files for m in (offers(ben, (n, name, c)), encode([Block(n, 0, c)]))]
    assert [v.verdict for v in small(ben, *messages)] == [1, 2] * 4


def test_files_whose_batch_is_never_full_do_not_pile_up_in_memory(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    streams, each = 6, 15
    over = threading.Event()

    def without_the_last(cid: LivePserver, stream: int) -> Iterator[bytes]:
        files = [(number, f"{stream}-{number}", os.urandom(MIB)) for number in range(each)]
        yield offers(cid, *files, (each, f"{stream}-last", b"never sent"))
        for number, _, content in files:
            yield encode([Block(number, 0, content)])
        over.wait(30)

    with live_pserver(tmp_path, tracker, "cid") as cid:
        stack.callback(over.set)
        for stream in range(streams):
            channel = stack.enter_context(cid.channel())
            call = channel.stream_stream("/p2p.v1.Transfer/UploadSmallFiles")(
                without_the_last(cid, stream), metadata=cid.ticket(f"{stream:064x}", WRITE), timeout=30
            )
            stack.callback(call.cancel)
        receiver = cid.pserver.transfer_service.batch_receiver
        least = streams * each * MIB - MAX_UNPUBLISHED_BYTES
        eventually(
            lambda: cid.pserver.library.total_bytes >= least and 0 < receiver.unpublished_bytes <= MAX_UNPUBLISHED_BYTES
        )
        stack.close()
        eventually(lambda: cid.pserver.stream_slots.in_use == 0)
        assert receiver.unpublished_bytes == 0


def test_another_peers_tickets_are_worth_nothing_in_a_stream(ben: LivePserver) -> None:
    [verdict] = small(ben, offers(ben, (1, "theirs.txt", b"x"), requester="c" * 32))
    assert verdict.code == "not_allowed"


@pytest.mark.parametrize("case", ["twice", "unasked", "many"])
def test_a_pusher_that_talks_nonsense_is_told_so(ben: LivePserver, case: str) -> None:
    one = offers(ben, (1, "nonsense.txt", b"n"))
    messages = {
        "twice": [one, one],
        "unasked": [encode([Block(9, 0, b"x")])],
        "many": [one * 1025],
    }[case]
    with pytest.raises(grpc.RpcError) as error:
        small(ben, *messages)
    assert code_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")
