"""Small files that other peers push in batches: a verdict for each, bounded memory, and one count in the quota."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.transfer.batch_serve import MAX_UNPUBLISHED_BYTES
from eventually import eventually
from live_pserver import LivePserver, code_of, live_pserver
from live_tracker import LiveTracker
from push_client import push_small, small_offers
from ticket_signer import WRITE

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


def test_each_small_file_has_its_own_verdict(ben: LivePserver) -> None:
    verdicts = push_small(
        ben,
        small_offers(ben, (1, "small/a.txt", b"a"), (2, "../b.txt", b"b"), (3, "small/c.txt", b"c")),
        encode([Block(1, 0, b"a"), Block(3, 0, b"not c")]),
    )
    wanted, published, refused = (pb.SmallFileVerdict.VERDICT_WANTED, pb.SmallFileVerdict.VERDICT_PUBLISHED, 3)
    received = [(v.number, v.verdict, v.code) for v in verdicts]
    assert received[:3] == [(1, wanted, ""), (2, refused, "bad_name"), (3, wanted, "")]
    assert sorted(received[3:]) == [(1, published, ""), (3, refused, "bad_usage")]
    assert (ben.shared / "small/a.txt").read_bytes() == b"a"
    assert not (ben.shared / "small/c.txt").exists()


def test_a_published_file_counts_once_towards_the_quota(ben: LivePserver) -> None:
    free = QUOTA - ben.pserver.manifest_cache.replica_usage().bytes
    size = min(700_000, (free - 1) // 8)
    for number in range(6):
        content = os.urandom(size)
        verdicts = push_small(ben, small_offers(ben, (1, f"quota{number}", content)), encode([Block(1, 0, content)]))
        assert [v.verdict for v in verdicts] == [1, 2], verdicts
    # Also within one stream.
    files = [(n, f"more{n}", os.urandom(1000)) for n in range(4)]
    messages = [m for n, name, c in files for m in (small_offers(ben, (n, name, c)), encode([Block(n, 0, c)]))]
    assert [v.verdict for v in push_small(ben, *messages)] == [1, 2] * 4


def test_incomplete_batches_of_all_streams_are_bounded_in_memory(
    tmp_path: Path, tracker: LiveTracker, stack: contextlib.ExitStack
) -> None:
    streams, each = 6, 15
    closed = threading.Event()

    def without_the_last(cid: LivePserver, stream: int) -> Iterator[bytes]:
        files = [(number, f"{stream}-{number}", os.urandom(MIB)) for number in range(each)]
        yield small_offers(cid, *files, (each, f"{stream}-last", b"never sent"))
        for number, _, content in files:
            yield encode([Block(number, 0, content)])
        closed.wait(30)

    with live_pserver(tmp_path, tracker, "cid") as cid:
        stack.callback(closed.set)
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


def test_a_ticket_of_another_peer_is_refused_in_a_stream(ben: LivePserver) -> None:
    [verdict] = push_small(ben, small_offers(ben, (1, "theirs.txt", b"x"), requester="c" * 32))
    assert verdict.code == "not_allowed"


@pytest.mark.parametrize("case", ["twice", "not requested", "many"])
def test_invalid_messages_abort_the_stream(ben: LivePserver, case: str) -> None:
    one = small_offers(ben, (1, "invalid.txt", b"n"))
    messages = {
        "twice": [one, one],
        "not requested": [encode([Block(9, 0, b"x")])],
        "many": [one * 1025],
    }[case]
    with pytest.raises(grpc.RpcError) as error:
        push_small(ben, *messages)
    assert code_of(error.value) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")
