"""What a listening socket hands down to those that it accepts."""

import os
import socket

import pytest

from daemon.peers.socket_options import set_notsent_lowat

OPTION = getattr(socket, "TCP_NOTSENT_LOWAT", None)


@pytest.mark.skipif(OPTION is None, reason="the system has no TCP_NOTSENT_LOWAT")
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_accepted_socket_keeps_little_unsent(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listening, socket.socket(family) as other, socket.socket(family) as asker:
        for each in (listening, other):
            each.bind((host, 0))
            each.listen()
        before = len(os.listdir("/proc/self/fd"))
        set_notsent_lowat(listening.getsockname()[1])
        assert len(os.listdir("/proc/self/fd")) == before
        asker.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, OPTION or 0) == 256 << 10
        assert other.getsockopt(socket.IPPROTO_TCP, OPTION or 0) != 256 << 10
