"""host:port and nothing else is dialled."""

import asyncio
import time

import pytest

from daemon.errors import NoHolders
from daemon.peers import addresses


@pytest.mark.parametrize(
    ("url", "host"),
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
def test_an_address_of_a_peer(url: str, host: str) -> None:
    assert addresses.split_address(url) == (host, 5001)


@pytest.mark.parametrize(
    "url",
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
def test_nothing_else_is_dialled(url: str) -> None:
    with pytest.raises(NoHolders):
        asyncio.run(addresses.resolve_target(url))


def test_no_host_takes_long_to_judge() -> None:
    began = time.monotonic()
    for hostile in ("a" * 252 + "!", "a-" * 126 + "!", "a." * 126 + "!", "1" * 100_000):
        with pytest.raises(NoHolders):
            addresses.split_address(hostile + ":1")
    assert time.monotonic() - began < 1


def test_a_name_is_resolved_by_us() -> None:
    assert asyncio.run(addresses.resolve_target("localhost:5001")) in {"ipv4:127.0.0.1:5001", "ipv6:[::1]:5001"}
    assert asyncio.run(addresses.resolve_target("[::1]:5001")) == "ipv6:[::1]:5001"


def test_a_refusal_is_one_short_line() -> None:
    with pytest.raises(NoHolders) as refusal:
        addresses.split_address("x\n\x1b[2J" * 1000)
    assert len(refusal.value.message) < 600
    assert refusal.value.message.isprintable()
