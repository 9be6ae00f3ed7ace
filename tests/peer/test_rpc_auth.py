"""Every method of every service is refused without its credentials, before its request is read."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import pserver_pb2 as pb
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest
from live_pserver import LivePserver, code_of
from ticket_signer import READ, WRITE

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
Metadata = Iterable[tuple[str, str]]


def methods(service: str) -> list[str]:
    return [f"/p2p.v1.{service}/{method.name}" for method in pb.DESCRIPTOR.services_by_name[service].methods]


CONTROL, TRANSFER = methods("Control"), methods("Transfer")
WRITING = {"/p2p.v1.Transfer/UploadFile", "/p2p.v1.Transfer/UploadSmallFiles"}
# What no reader could take for a message: a call that is refused never gets so far as to read it.
UNREADABLE = b"\xff\xff\xff"


def refusal(live: LivePserver, method: str, metadata: Metadata = (), request: bytes = UNREADABLE) -> Any:
    """Return how a call of this method ends."""
    with live.channel() as channel, pytest.raises(grpc.RpcError) as error:
        list(channel.stream_stream(method)(iter([request]), metadata=tuple(metadata), timeout=10))
    return code_of(error.value)


@pytest.mark.parametrize("method", [*CONTROL, *TRANSFER])
def test_a_call_without_credentials_is_refused_everywhere(ana: LivePserver, method: str) -> None:
    assert refusal(ana, method) == (UNAUTHENTICATED, "not_allowed")


@pytest.mark.parametrize("method", CONTROL)
def test_control_accepts_only_the_cookie(ana: LivePserver, film: Manifest, method: str) -> None:
    [(_, cookie)] = ana.cookie
    wrong: list[Metadata] = [
        [("p2p-cookie", secrets.token_hex(32))],
        [("p2p-cookie", cookie[:-1])],
        [("p2p-cookie", cookie.upper() if cookie.upper() != cookie else cookie[::-1])],
        [("p2p-cookie", "")],
        [("p2p-ticket", cookie)],
        [("cookie", cookie)],
        [("authorization", f"Bearer {ana.session()['token']}")],
        ana.ticket(film.id),
        ana.ticket(film.id, WRITE),
    ]
    for metadata in wrong:
        assert refusal(ana, method, metadata) == (UNAUTHENTICATED, "not_allowed"), metadata
    # With the cookie the request is read.
    assert refusal(ana, method, ana.cookie) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")


def challenge(cookie: str, port: int, nonce: bytes) -> list[tuple[str, str]]:
    key = bytes.fromhex(cookie)
    mac = hmac.new(key, b"p2p-prove-pclient|" + str(port).encode() + b"|" + nonce, hashlib.sha256)
    return [("p2p-challenge", f"{nonce.hex()}.{mac.hexdigest()}")]


def test_a_challenge_opens_prove_only(ana: LivePserver) -> None:
    [(_, cookie)] = ana.cookie
    nonce = secrets.token_bytes(32)
    good = challenge(cookie, ana.pserver.port, nonce)
    with ana.control() as control:
        proof = control.Prove(pb.ProveRequest(nonce=nonce), metadata=tuple(good), timeout=10).proof
    message = b"p2p-prove-pserver|" + str(ana.pserver.port).encode() + b"|" + nonce
    assert proof == hmac.new(bytes.fromhex(cookie), message, hashlib.sha256).digest()
    for method in CONTROL:
        if not method.endswith("/Prove"):
            assert refusal(ana, method, good)[0] is UNAUTHENTICATED
    for bad in (challenge(cookie, ana.pserver.port + 1, nonce), challenge("0" * 64, ana.pserver.port, nonce)):
        assert refusal(ana, "/p2p.v1.Control/Prove", bad)[0] is UNAUTHENTICATED


@pytest.mark.parametrize("method", TRANSFER)
def test_transfer_needs_a_valid_ticket_of_this_session(ana: LivePserver, film: Manifest, method: str) -> None:
    right = WRITE if method in WRITING else READ
    now = ana.pserver.account.clock.now()
    wrong: list[Metadata] = [
        ana.cookie,
        [("p2p-ticket", "")],
        [("p2p-ticket", "A" * 300)],
        [("p2p-ticket", ana.ticket(film.id, right)[0][1] + "A")],
        [("p2p-cookie", ana.ticket(film.id, right)[0][1])],
        ana.ticket(film.id, READ + WRITE - right),
        ana.ticket(film.id, right, holder="f" * 32),
        ana.ticket(film.id, right, issued=now - 400, expires=now - 60),
        ana.ticket(film.id, right, version=2),
    ]
    for metadata in wrong:
        status, code = refusal(ana, method, metadata)
        assert status in {UNAUTHENTICATED, DENIED} and code == "not_allowed", metadata
    good = refusal(ana, method, ana.ticket(film.id, right))
    assert good == (grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")


@pytest.mark.parametrize(
    "method",
    [
        "/p2p.v1.Control/Shutdown",
        "/p2p.v1.Transfer/../Control/Status",
        "/p2p.v1.Admin/Status",
        "/p2p.v2.Control/Status",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/",
        "//",
        "/x",
    ],
)
def test_an_unknown_method_is_refused(ana: LivePserver, method: str) -> None:
    status, _ = refusal(ana, method)
    assert status in {UNAUTHENTICATED, DENIED, grpc.StatusCode.UNIMPLEMENTED}


def test_health_is_open_to_all(ana: LivePserver) -> None:
    with ana.channel() as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        assert check(b"", timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            check(UNREADABLE, timeout=10)
        assert code_of(error.value)[0] is grpc.StatusCode.NOT_FOUND


def test_a_ticket_opens_one_file_only(ana: LivePserver, film: Manifest) -> None:
    other = ana.share("other.bin", b"other")
    with ana.transfer() as transfer:
        got = transfer.GetManifest(pb.GetManifestRequest(), metadata=ana.ticket(other.id), timeout=10)
        assert got.size == 5
        asks = [pb.SmallFileRequest(number=1, ticket=ana.ticket(other.id, requester="b" * 32)[0][1])]
        [reply] = transfer.DownloadSmallFiles(
            iter([pb.DownloadSmallFilesRequest(requests=asks)]), metadata=ana.ticket(film.id), timeout=10
        )
        assert [fault.code for fault in reply.faults] == ["not_allowed"] and not reply.blocks


@pytest.mark.parametrize(("right", "requester"), [(READ, "a" * 32), (WRITE, "b" * 32)])
def test_each_small_file_needs_its_own_ticket_to_write(
    ana: LivePserver, film: Manifest, right: int, requester: str
) -> None:
    ticket = ana.ticket(Manifest.of_bytes(b"x").id, right, requester=requester)[0][1]
    offers = [pb.SmallFileOffer(number=1, name="x.bin", size=1, ticket=ticket)]
    with ana.channel() as channel:
        said = iter([pb.UploadSmallFilesRequest(offers=offers).SerializeToString(), encode([Block(1, 0, b"x")])])
        call = channel.stream_stream("/p2p.v1.Transfer/UploadSmallFiles")
        replies = call(said, metadata=ana.ticket(film.id, WRITE, requester="a" * 32), timeout=10)
        verdicts = pb.UploadSmallFilesResponse.FromString(next(replies)).verdicts
        # Sending a refused file either ends the stream or has no effect.
        with suppress(grpc.RpcError):
            list(replies)
    assert [(each.verdict, each.code) for each in verdicts] == [(pb.SmallFileVerdict.VERDICT_REFUSED, "not_allowed")]
    assert not (ana.shared / "x.bin").exists()


@pytest.mark.parametrize("right", [READ, WRITE])
def test_a_right_to_write_a_small_file_does_not_read_it(ana: LivePserver, film: Manifest, right: int) -> None:
    small = ana.share("small.bin", b"small")
    asks = [pb.SmallFileRequest(number=1, ticket=ana.ticket(small.id, right)[0][1])]
    with ana.transfer() as transfer:
        [reply] = transfer.DownloadSmallFiles(
            iter([pb.DownloadSmallFilesRequest(requests=asks)]), metadata=ana.ticket(film.id), timeout=10
        )
    assert [fault.code for fault in reply.faults] == ([] if right == READ else ["not_allowed"])
    assert [block.data for block in reply.blocks] == ([b"small"] if right == READ else [])
