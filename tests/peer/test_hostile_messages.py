"""Any bytes to any method end in a refusal, never in INTERNAL, UNKNOWN or a traceback, and other calls continue."""

import gzip
import logging
import os
import random
import struct
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest
from live_pserver import OPTIONS, LivePserver, code_of
from ticket_signer import READ, WRITE

BAD = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
WRITING = {"UploadFile", "UploadSmallFiles"}
# Methods that hostile bytes may reach safely. The other ones could log out or change the password.
HARMLESS = ["Prove", "WatchTransfer", "CancelTransfer", "ListFiles", "Status", "RemoveFiles", "DownloadFileRequest"]


@pytest.fixture(autouse=True)
def no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert that neither the pserver, asyncio nor gRPC logs an unexpected error."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def samples(film: Manifest, tickets: dict[int, str]) -> list[bytes]:
    """Return valid messages, to be corrupted."""
    manifest = pb.Manifest(size=film.size, piece_length=film.piece_length, digests=film.digests)
    messages: list[Any] = [
        pb.PieceRequest(pieces=[0, 1, 2**32 - 1], block_length=2**32 - 1, cancel=[7]),
        pb.DownloadSmallFilesRequest(requests=[pb.SmallFileRequest(number=n, ticket=tickets[READ]) for n in range(5)]),
        pb.PushRequest(offer=pb.Offer(name="../../etc/passwd", manifest=manifest)),
        pb.PushRequest(offer=pb.Offer(name="a\u202eb", manifest=pb.Manifest(size=2**64 - 1, piece_length=1))),
        pb.UploadSmallFilesRequest(
            offers=[pb.SmallFileOffer(number=1, name="x", size=2**64 - 1, ticket=tickets[WRITE])]
        ),
        pb.UploadSmallFilesRequest(offers=[pb.SmallFileOffer(number=1, name="\0", size=5, ticket=tickets[WRITE])] * 3),
        pb.DownloadCommand(names=["no such", "", "../x", "?" * 300], output="/nowhere/at/all"),
        pb.WatchTransferRequest(transfer=2**64 - 1),
        pb.RemoveCommand(names=["../x", "no such", "\x1b[2J"]),
        pb.ListFilesRequest(match="?*" * 2500),
        pb.ProveRequest(nonce=b"x"),
    ]
    blocks = [Block(1, 0, b"abc"), Block(2**32 - 1, 2**32 - 1, b""), Block(0, 5, b"x" * 1000)]
    return [*(message.SerializeToString() for message in messages), encode(blocks), b""]


def spoilt(rng: random.Random, good: list[bytes]) -> bytes:
    """Return a hostile message."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return rng.choice(good)
    if kind == 2:
        return b"".join(rng.choice(good) for _ in range(3))
    message = bytearray(rng.choice(good) or b"\x0a\x01")
    if kind == 3:
        return bytes(message[: rng.randrange(len(message))])
    for _ in range(rng.randrange(1, 5)):
        message[rng.randrange(len(message))] = rng.randrange(256)
    if kind == 4:
        return bytes(message)
    return b"\x0a" + struct.pack("B", rng.randrange(128)) + bytes(message)


def attack(ana: LivePserver, film: Manifest, count: int, seed: int) -> dict[grpc.StatusCode, int]:
    """Send `count` messages in calls of one to three; return how the calls ended."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    tickets = {right: ana.ticket(film.id, right)[0][1] for right in (READ, WRITE)}
    good = samples(film, tickets)
    ends: dict[grpc.StatusCode, int] = {}
    sent = 0
    with ana.channel() as channel:
        calls = [("Transfer", m.name) for m in pb.DESCRIPTOR.services_by_name["Transfer"].methods]
        calls += [("Control", name) for name in HARMLESS]
        while sent < count:
            service, name = rng.choice(calls)
            messages = [spoilt(rng, good) for _ in range(rng.choice([1, 1, 2, 3]))]
            sent += len(messages)
            metadata: Any = ana.cookie
            if service == "Transfer":
                metadata = (("p2p-ticket", tickets[WRITE if name in WRITING else READ]),)
            if rng.random() < 0.1:
                metadata = ()
            call = channel.stream_stream(f"/p2p.v1.{service}/{name}")(iter(messages), metadata=metadata, timeout=20)
            try:
                for _ in call:
                    pass
                status = grpc.StatusCode.OK
            except grpc.RpcError as error:
                status, code = code_of(error)
                assert code != "internal", (name, messages)
            ends[status] = ends.get(status, 0) + 1
            assert status not in BAD, (name, messages, call.details())
            assert status is not grpc.StatusCode.DEADLINE_EXCEEDED, (name, messages)
    return ends


def test_2000_hostile_messages_do_no_harm(ana: LivePserver, film: Manifest) -> None:
    ends = attack(ana, film, 2_000, 1)
    assert len(ends) > 3
    assert_alive(ana)
    assert sorted(p.name for p in ana.shared.iterdir() if not p.name.startswith(".")) == ["film.bin"]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 12))
def test_100000_hostile_messages_do_no_harm(ana: LivePserver, film: Manifest, seed: int) -> None:
    attack(ana, film, 10_000, seed)
    assert_alive(ana)


def assert_alive(ana: LivePserver) -> None:
    with ana.control() as control:
        assert control.Status(pb.StatusRequest(), metadata=ana.cookie, timeout=10).user == "ana"
    assert ana.pserver.stream_slots.in_use == 0


def ended(ana: LivePserver, method: str, messages: list[bytes], metadata: Any, **options: Any) -> grpc.StatusCode:
    """Return how a call ends."""
    with grpc.insecure_channel(ana.address, [*OPTIONS, ("grpc.max_send_message_length", -1)]) as channel:
        stream: Any = channel.stream_stream(method)
        call = stream(iter(messages), metadata=metadata, timeout=20, **options)
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            return code_of(error)[0]
        return grpc.StatusCode.OK


def test_an_oversized_message_is_refused(ana: LivePserver, film: Manifest) -> None:
    for method, right in (("DownloadFile", READ), ("UploadFile", WRITE), ("GetManifest", READ)):
        status = ended(ana, f"/p2p.v1.Transfer/{method}", [bytes(8 << 20)], ana.ticket(film.id, right))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert_alive(ana)


def test_a_compression_bomb_is_not_unpacked(ana: LivePserver, film: Manifest) -> None:
    # 64 MiB of zeros in 64 KiB, framed as gRPC frames a compressed message.
    bomb = gzip.compress(b"\xfa\x07" + b"\xff\xff\xff\x1f" + bytes(64 << 20))
    assert len(bomb) < 100_000
    peak = memory()
    for _ in range(4):
        status = ended(
            ana,
            "/p2p.v1.Transfer/UploadFile",
            [b"\xfa\x07\xff\xff\xff\x1f" + bytes(64 << 20)],
            ana.ticket(film.id, WRITE),
            compression=grpc.Compression.Gzip,
        )
        assert status in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}
    # The client shares this process and has the zeros in memory.
    assert memory() - peak < 400 << 20
    assert_alive(ana)


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_compressed_messages_are_read(ana: LivePserver, film: Manifest) -> None:
    status = ended(ana, "/p2p.v1.Transfer/GetManifest", [b""], ana.ticket(film.id), compression=grpc.Compression.Gzip)
    assert status in {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED}


@pytest.mark.parametrize(("length", "refused"), [(4 << 10, False), (20 << 10, True), (200 << 10, True)])
def test_20_kib_of_metadata_are_refused(ana: LivePserver, film: Manifest, length: int, refused: bool) -> None:
    metadata = (*ana.ticket(film.id), ("x-padding", "x" * length))
    status = ended(ana, "/p2p.v1.Transfer/GetManifest", [b""], metadata)
    assert (status is not grpc.StatusCode.OK) is refused
    assert status not in BAD
    assert_alive(ana)


@pytest.mark.parametrize(
    "metadata",
    [
        [("p2p-ticket", "a"), ("p2p-ticket", "b")],
        [("p2p-ticket-bin", b"\x00\xff")],
        [("p2p-cookie", "x" * 5000)],
        [("p2p-challenge", "f" * 64 + "." + "f" * 64)],
        [("p2p-challenge", ".")],
    ],
)
def test_odd_metadata_opens_nothing(ana: LivePserver, metadata: list[tuple[str, Any]]) -> None:
    for method in ("/p2p.v1.Control/Prove", "/p2p.v1.Control/Status", "/p2p.v1.Transfer/GetManifest"):
        status = ended(ana, method, [b""], metadata)
        assert status in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def longest_answer_beside(ana: LivePserver, film: Manifest, method: str, right: int, message: bytes) -> float:
    """Send a message that is refused; return the most seconds that Status took meanwhile."""
    longest = 0.0
    with ana.channel() as channel, ana.control() as control:
        cookie = ana.cookie
        control.Status(pb.StatusRequest(), metadata=cookie, timeout=10)
        call = channel.stream_stream(f"/p2p.v1.Transfer/{method}")(
            iter([message]), metadata=ana.ticket(film.id, right), timeout=20
        )
        for _ in range(20):
            began = time.monotonic()
            control.Status(pb.StatusRequest(), metadata=cookie, timeout=10)
            longest = max(longest, time.monotonic() - began)
        with pytest.raises(grpc.RpcError) as error:
            list(call)
        assert code_of(error.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
    return longest


@pytest.mark.parametrize(
    ("method", "right", "message"),
    [
        ("DownloadFile", READ, b"\x08\x01" * (1 << 20)),
        ("DownloadFile", READ, b"\x0a\xff\xff\x7f" + b"\x01" * 2097151),
        ("DownloadFile", READ, b"\x1a\xff\xff\x7f" + b"\x01" * 2097151),
        ("DownloadSmallFiles", READ, b"\x0a\x00" * (1 << 20)),
        ("UploadFile", WRITE, b"\x0a\x00" * (1 << 20)),
        ("UploadSmallFiles", WRITE, b"\x12\x00" * (1 << 20)),
        ("UploadSmallFiles", WRITE, b"\x12\x00" * 8000),
    ],
)
def test_a_message_of_a_million_fields_does_not_delay_other_calls(
    ana: LivePserver, film: Manifest, method: str, right: int, message: bytes
) -> None:
    # A busy machine may delay one of the three.
    assert min(longest_answer_beside(ana, film, method, right, message) for _ in range(3)) < 0.5
