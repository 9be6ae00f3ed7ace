"""Control answers on loopback only, unless over TLS; with TLS every call uses it."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.rpc.auth import require_loopback_or_tls
from live_pserver import OPTIONS, LivePserver, code_of, live_pserver
from live_tracker import LiveTracker, live_tracker
from pserver_pb2_grpc import ControlStub, TransferStub
from system.certificates import Certificates
from tracker.http_server import TlsFiles


@pytest.mark.netns
def test_control_refuses_another_address_even_with_the_cookie(folder: Path, tracker: LiveTracker) -> None:
    """An address of this machine that is not loopback counts as another machine."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    addresses = [address for address in found if "." in address]
    if not addresses or shutil.which("hostname") is None:
        pytest.skip("needs an address beside loopback")
    with live_pserver(folder / "open", tracker, "open", listen_host="0.0.0.0") as live:
        manifest = live.share("a.txt", b"a")
        with grpc.insecure_channel(f"{addresses[0]}:{live.pserver.port}", OPTIONS) as channel:
            with pytest.raises(grpc.RpcError) as error:
                ControlStub(channel).Status(pb.StatusRequest(), metadata=live.cookie, timeout=10)
            assert code_of(error.value) == (grpc.StatusCode.PERMISSION_DENIED, "not_allowed")
            # Transfer is for other machines.
            got = TransferStub(channel).GetManifest(
                pb.GetManifestRequest(), metadata=live.ticket(manifest.id), timeout=10
            )
            assert got.size == 1


class Call:
    """A call from an address."""

    def __init__(self, peer: str, tls: bool) -> None:
        self._peer = peer
        self._tls = tls
        self.refused = False

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"transport_security_type": [b"ssl"]} if self._tls else {}

    async def abort(self, *_: object) -> None:
        self.refused = True
        raise PermissionError


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("peer", "loopback"),
    [
        ("ipv4:127.0.0.1:5", True),
        ("ipv4:127.8.9.1:5", True),
        ("ipv6:[::1]:5", True),
        ("ipv6:%5B::1%5D:5", True),
        ("ipv4:10.0.0.1:5", False),
        ("ipv4:128.0.0.1:5", False),
        ("ipv6:[2001:db8::1]:5", False),
        ("ipv6:[::10]:5", False),
        ("unix:/tmp/x", False),
        ("", False),
    ],
)
def test_only_loopback_or_tls_is_accepted(peer: str, loopback: bool, tls: bool) -> None:
    call: Any = Call(peer, tls)
    if loopback or tls:
        asyncio.run(require_loopback_or_tls(call))
    else:
        with pytest.raises(PermissionError):
            asyncio.run(require_loopback_or_tls(call))
    assert call.refused is not (loopback or tls)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pair(folder: Path, certificates: Certificates) -> Iterator[tuple[LivePserver, LivePserver]]:
    """Two peers and their tracker, all with TLS."""
    keys: dict[str, Any] = {
        "tls_cert": certificates.certificate,
        "tls_key": certificates.key,
        "tls_ca": certificates.authority,
    }
    with (
        live_tracker(folder / "tls-tracker", tls=TlsFiles(certificates.certificate, certificates.key)) as tracker,
        live_pserver(folder / "tls-ana", tracker, "ana", **keys) as ana,
        live_pserver(folder / "tls-ben", tracker, "ben", **keys) as ben,
    ):
        yield ana, ben


def test_a_file_is_transferred_over_tls_and_a_plain_call_fails(
    pair: tuple[LivePserver, LivePserver], certificates: Certificates
) -> None:
    ana, ben = pair
    manifest = ana.share("film.bin", bytes(range(256)) * 16384)
    ana.call(ana.pserver.announcer.sync())
    with grpc.secure_channel(ben.address, certificates.channel_credentials(), OPTIONS) as channel:
        command = pb.DownloadCommand(names=["film.bin"])
        events = list(ControlStub(channel).DownloadFileRequest(iter([command]), metadata=ben.cookie, timeout=30))
    assert [fault for event in events for fault in event.results.faults] == []
    assert (ben.shared / "film.bin").read_bytes() == (ana.shared / "film.bin").read_bytes()
    with grpc.insecure_channel(ana.address, OPTIONS) as plain, pytest.raises(grpc.RpcError) as error:
        TransferStub(plain).GetManifest(pb.GetManifestRequest(), metadata=ana.ticket(manifest.id), timeout=5)
    assert code_of(error.value)[0] is grpc.StatusCode.UNAVAILABLE


def test_peers_use_tls_while_the_tracker_does_not(
    folder: Path, tracker: LiveTracker, certificates: Certificates
) -> None:
    keys: dict[str, Any] = {
        "tls_cert": certificates.certificate,
        "tls_key": certificates.key,
        "tls_ca": certificates.authority,
    }
    with (
        live_pserver(folder / "plain-ana", tracker, "plain-ana", **keys) as ana,
        live_pserver(folder / "plain-ben", tracker, "plain-ben", **keys) as ben,
    ):
        ana.share("song.bin", b"song")
        ana.call(ana.pserver.announcer.sync())
        with grpc.secure_channel(ben.address, certificates.channel_credentials(), OPTIONS) as channel:
            command = pb.DownloadCommand(names=["song.bin"])
            list(ControlStub(channel).DownloadFileRequest(iter([command]), metadata=ben.cookie, timeout=30))
        assert (ben.shared / "song.bin").read_bytes() == b"song"


def test_a_certificate_of_another_authority_is_not_trusted(
    pair: tuple[LivePserver, LivePserver], tmp_path: Path
) -> None:
    other = Certificates.make(tmp_path)
    with (
        grpc.secure_channel(pair[0].address, other.channel_credentials(), OPTIONS) as channel,
        pytest.raises(grpc.RpcError) as error,
    ):
        ControlStub(channel).Status(pb.StatusRequest(), metadata=pair[0].cookie, timeout=5)
    assert code_of(error.value)[0] is grpc.StatusCode.UNAVAILABLE
