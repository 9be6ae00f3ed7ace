"""Only `host:port` is dialled, and the sockets of a port hold few unsent bytes."""

import asyncio
import os
import socket
import time

import pytest

from daemon.errors import NoHolders
from daemon.peers import addresses

OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1:5001", "127.0.0.1"),
        ("[::1]:5001", "::1"),
        ("[2001:db8::7]:5001", "2001:db8::7"),
        ("peer-1.lab.example:5001", "peer-1.lab.example"),
        ("peer.example.:5001", "peer.example."),
        ("3f9c12ab34de:5001", "3f9c12ab34de"),
        ("x_y:5001", "x_y"),
    ],
)
def test_an_address_is_split_into_host_and_port(address: str, host: str) -> None:
    assert addresses.split_address(address) == (host, 5001)


@pytest.mark.parametrize(
    "address",
    [
        "unix:/run/docker.sock",
        "unix:5001",
        "dns:///evil.example:5001",
        "dns:evil.example:5001",
        "ipv4:127.0.0.1:5001",
        "xds:///x:1",
        "http://a:5001",
        "//a:5001",
        "a/b:5001",
        "user@host:5001",
        "127.0.0.1",
        "127.0.0.1:",
        ":5001",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:5001 ",
        "127.0.0.1:\uff15\uff10\uff10\uff11",
        "127.0.0.1:5001\n",
        "2130706433:5001",
        "0x7f000001:5001",
        "127.1:5001",
        "0177.0.0.1:5001",
        "256.1.1.1:5001",
        "::1:5001",
        "[fe80::1%eth0]:5001",
        "[::1%lo]:5001",
        "-a.example:5001",
        "a..b:5001",
        "a b:5001",
        "a\0b:5001",
        "ä.example:5001",
        "a" * 64 + ":5001",
        "a." * 130 + "b:5001",
        "",
    ],
)
def test_a_malformed_address_is_not_dialled(address: str) -> None:
    with pytest.raises(NoHolders):
        asyncio.run(addresses.resolve_target(address))


def test_a_hostile_host_is_checked_quickly() -> None:
    began = time.process_time()
    for hostile in ("a" * 252 + "!", "a-" * 126 + "!", "a." * 126 + "!", "1" * 100_000):
        with pytest.raises(NoHolders):
            addresses.split_address(hostile + ":1")
    assert time.process_time() - began < 1


def test_a_host_name_is_resolved_before_grpc_sees_it() -> None:
    target = asyncio.run(addresses.resolve_target("localhost:5001"))
    found = {address for *_, (address, *_) in socket.getaddrinfo("localhost", 1)}
    if found == {"127.0.0.1"}:
        assert target == "ipv4:127.0.0.1:5001"
    else:
        assert set(target.removeprefix("ipv6:").split(",")) == {"[::1]:5001", "[::ffff:127.0.0.1]:5001"}
    assert asyncio.run(addresses.resolve_target("[::1]:5001")) == "ipv6:[::1]:5001"


def test_an_error_about_an_address_is_one_short_line() -> None:
    with pytest.raises(NoHolders) as refusal:
        addresses.split_address("x\n\x1b[2J" * 1000)
    assert len(refusal.value.message) < 600
    assert refusal.value.message.isprintable()


@pytest.mark.skipif(OPTION is None, reason="the system has no TCP_NOTSENT_LOWAT")
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_accepted_socket_holds_few_unsent_bytes(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listening, socket.socket(family) as other, socket.socket(family) as client:
        for each in (listening, other):
            each.bind((host, 0))
            each.listen()
        before = len(os.listdir("/proc/self/fd"))
        addresses.set_notsent_lowat(listening.getsockname()[1])
        assert len(os.listdir("/proc/self/fd")) == before
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, OPTION or 0) == 256 << 10
        assert other.getsockopt(socket.IPPROTO_TCP, OPTION or 0) != 256 << 10
