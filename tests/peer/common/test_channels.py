"""Channels reach only IP addresses and hosts of the env file, and TLS verifies the server."""

from __future__ import annotations

from concurrent import futures
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import grpc
import pytest
import trustme

from common import channels
from common.state_files import default_shared_dir, default_state_dir
from silent_address import silent_address


def test_an_address_becomes_a_target_without_a_name_server() -> None:
    assert channels.target_of_addresses(["127.0.0.1"], 5001) == "ipv4:127.0.0.1:5001"
    assert channels.target_of_addresses(["::1"], 5001) == "ipv6:[::1]:5001"
    assert channels.target_of_addresses(["[::1]"], 5001) == "ipv6:[::1]:5001"


def test_the_addresses_of_one_host_are_one_target() -> None:
    assert channels.target_of_addresses(["127.0.0.1", "127.0.0.2"], 1) == "ipv4:127.0.0.1:1,127.0.0.2:1"
    assert channels.target_of_addresses(["::1", "127.0.0.2"], 1) == "ipv6:[::1]:1,[::ffff:127.0.0.2]:1"
    with pytest.raises(ValueError):
        channels.target_of_addresses([], 1)


@pytest.mark.parametrize(
    "host", ["localhost", "unix:/tmp/x", "unix", "dns:///a", "xds:a", "", "127.1", "fe80::1%eth0", "a/b"]
)
def test_only_an_ip_address_becomes_a_target(host: str) -> None:
    with pytest.raises(ValueError):
        channels.target_of_addresses([host], 1)


def test_our_own_env_file_may_name_a_host() -> None:
    assert channels.target_of_own_host("peer1", 5001) == "dns:///peer1:5001"
    assert channels.target_of_own_host("10.0.0.1", 5001) == "ipv4:10.0.0.1:5001"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_accepts_only_a_server_with_a_trusted_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    server = grpc.server(futures.ThreadPoolExecutor(1), options=channels.server_options())
    port = server.add_secure_port(
        "127.0.0.1:0", channels.server_credentials(tmp_path / "cert.pem", tmp_path / "key.pem")
    )
    server.start()
    try:
        assert _reaches(port, tmp_path / "ca.pem")
        assert not _reaches(port, tmp_path / "other.pem")
    finally:
        server.stop(None)


def _reaches(port: int, authority: Path) -> bool:
    credentials = channels.channel_credentials(authority)
    assert credentials is not None
    target = channels.target_of_addresses(["127.0.0.1"], port)
    with grpc.secure_channel(target, credentials, channels.channel_options()) as channel:
        call = channel.unary_unary("/none/None", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    return bool(caught.value.code() is grpc.StatusCode.UNIMPLEMENTED)


@pytest.mark.ipv6
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(("silent", "answering"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_a_host_is_reached_at_the_address_that_answers(
    authority: trustme.CA, tmp_path: Path, tls: bool, silent: str, answering: str
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = grpc.server(futures.ThreadPoolExecutor(1), options=channels.server_options())
    address = f"[{answering}]:0" if ":" in answering else f"{answering}:0"
    if tls:
        issued = authority.issue_cert("peer.example")
        (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
        (tmp_path / "cert.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        identity = channels.server_credentials(tmp_path / "cert.pem", tmp_path / "key.pem")
        port = server.add_secure_port(address, identity)
    else:
        port = server.add_insecure_port(address)
    server.start()
    with ExitStack() as stack:
        stack.callback(server.stop, None)
        silent_address(stack, silent, port)
        target = channels.target_of_addresses([silent, answering], port)
        options = [*channels.channel_options(), ("grpc.ssl_target_name_override", "peer.example")]
        credentials = channels.channel_credentials(tmp_path / "ca.pem") if tls else None
        channel = stack.enter_context(
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        call = channel.unary_unary("/none/None", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_tls_there_are_no_credentials() -> None:
    assert channels.channel_credentials(None) is None


def test_the_authorities_of_the_system_can_be_used() -> None:
    assert channels.channel_credentials("system") is not None


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match="no certificate"):
        channels.channel_credentials(tmp_path / "empty.pem")


def test_a_second_server_on_one_port_fails() -> None:
    first = grpc.server(futures.ThreadPoolExecutor(1), options=channels.server_options())
    second = grpc.server(futures.ThreadPoolExecutor(1), options=channels.server_options())
    port = first.add_insecure_port("127.0.0.1:0")
    first.start()
    try:
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")
    finally:
        first.stop(None)
        second.stop(None)


def test_default_folders_follow_xdg_and_differ_by_port() -> None:
    home = {"HOME": "/home/ana"}
    shared = Path("/home/ana/.local/share/p2p/peer-5001/shared")
    assert default_shared_dir(5001, home) == shared
    assert default_state_dir(5001, home) == Path("/home/ana/.local/state/p2p/peer-5001")
    assert default_state_dir(5002, {**home, "XDG_STATE_HOME": "/s"}) == Path("/s/p2p/peer-5002")
    assert default_shared_dir(5001, {**home, "XDG_DATA_HOME": "relative"}) == shared
    assert default_state_dir(5001, {"HOME": "relative"}) is None


def test_grpc_knows_every_option_that_is_set() -> None:
    # gRPC ignores an unknown option.
    core = Path(str(import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    unknown = [
        name for name, _ in channels.channel_options() + channels.server_options() if name.encode() + b"\0" not in core
    ]
    assert unknown == []
