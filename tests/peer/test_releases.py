"""Control compares releases before a command; calls and fields that this release does not know do no harm."""

import secrets

import grpc
import pytest

import pserver_pb2 as pb
from common import cookie
from common.version import OWN_RELEASE, PROTOCOL, VERSION
from daemon.storage.manifest import Manifest
from live_pserver import LivePserver, code_of
from ticket_signer import READ, WRITE

NEWEST = PROTOCOL[1]
# A field of each wire type that a later release may add.
LATER = b"\xf8\x07\x05" + b"\xf9\x07" + bytes(8) + b"\xfa\x07\x03abc" + b"\xfd\x07" + bytes(4)


def prove(ana: LivePserver, release: pb.Release | None) -> pb.ProveResponse:
    with ana.control() as control:
        request = pb.ProveRequest(nonce=secrets.token_bytes(cookie.LENGTH), release=release)
        return control.Prove(request, metadata=ana.cookie, timeout=10)


@pytest.mark.parametrize(
    "release",
    [
        None,
        pb.Release(version=VERSION, oldest_protocol=1, newest_protocol=NEWEST),
        pb.Release(version="9.0.0", oldest_protocol=NEWEST, newest_protocol=NEWEST + 5),
    ],
)
def test_a_pclient_with_a_common_protocol_is_served_and_gets_the_release(
    ana: LivePserver, release: pb.Release | None
) -> None:
    assert prove(ana, release).release == pb.Release(
        version=VERSION, oldest_protocol=PROTOCOL[0], newest_protocol=NEWEST
    )


def test_a_pclient_without_a_common_protocol_is_refused_with_both_releases(ana: LivePserver) -> None:
    newer = pb.Release(version="9.0.0", oldest_protocol=NEWEST + 1, newest_protocol=NEWEST + 1)
    with pytest.raises(grpc.RpcError) as refusal:
        prove(ana, newer)
    assert code_of(refusal.value)[1] == "incompatible"
    assert refusal.value.details() == (
        f"this pclient is release 9.0.0 (protocol {NEWEST + 1}), the pserver {OWN_RELEASE}: upgrade the pserver"
    )


@pytest.mark.parametrize("method", ["Control/Later", "Transfer/DownloadLater", "Transfer/UploadLater"])
def test_a_call_of_a_later_release_is_unimplemented(ana: LivePserver, film: Manifest, method: str) -> None:
    metadata = ana.cookie if method.startswith("Control") else ana.ticket(film.id, READ)
    with ana.channel() as channel, pytest.raises(grpc.RpcError) as refusal:
        list(channel.stream_stream(f"/p2p.v1.{method}")(iter([b""]), metadata=tuple(metadata), timeout=10))
    assert code_of(refusal.value)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_fields_of_a_later_release_in_a_request_change_nothing(ana: LivePserver, film: Manifest) -> None:
    reading, writing = ana.ticket(film.id, READ), ana.ticket(film.id, WRITE)
    calls = [
        ("Control/ListFiles", pb.ListFilesRequest(match="film"), ana.cookie),
        ("Transfer/GetManifest", pb.GetManifestRequest(), reading),
        ("Transfer/DownloadFile", pb.PieceRequest(pieces=[0]), reading),
        ("Transfer/DownloadSmallFiles", pb.DownloadSmallFilesRequest(), reading),
        ("Transfer/UploadSmallFiles", pb.UploadSmallFilesRequest(), writing),
    ]
    with ana.channel() as channel:
        for method, request, metadata in calls:
            call = channel.stream_stream(f"/p2p.v1.{method}")
            plain, later = (
                list(call(iter([request.SerializeToString() + more]), metadata=metadata, timeout=20))
                for more in (b"", LATER)
            )
            assert plain == later, method
