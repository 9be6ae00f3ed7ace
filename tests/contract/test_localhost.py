"""localhost has two addresses: pclient reaches its pserver at the one where it listens, and trusts no other."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.connection import connect
from cli.settings import Settings
from common import state_files
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker

pytestmark = pytest.mark.ipv6


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveTracker]:
    with live_tracker(tmp_path_factory.mktemp("tracker")) as live:
        yield live


def settings_of(pserver: LivePserver) -> Settings:
    state_dir = pserver.home / "state"
    return Settings("localhost", pserver.pserver.port, state_dir, None, pserver.home / ".env", None)


@pytest.mark.parametrize("listen_host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
def test_a_pserver_is_reached_by_the_name_wherever_it_listens(
    tmp_path: Path, tracker: LiveTracker, listen_host: str
) -> None:
    with live_pserver(tmp_path, tracker, listen_host=listen_host) as pserver:
        connect(settings_of(pserver), secrets.token_bytes).channel.close()


@pytest.mark.parametrize(("listen_host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_another_program_on_the_port_is_not_dialled(
    tmp_path: Path, tracker: LiveTracker, listen_host: str, other: str
) -> None:
    """It could pass the challenge on to the pserver, and the proof back."""
    with live_pserver(tmp_path, tracker, listen_host=listen_host) as pserver, ExitStack() as stack:
        family = socket.AF_INET6 if ":" in other else socket.AF_INET
        stranger = stack.enter_context(socket.create_server((other, pserver.pserver.port), family=family))
        stranger.setblocking(False)
        connection = connect(settings_of(pserver), secrets.token_bytes)
        stack.callback(connection.channel.close)
        connection.verify_again()
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_the_addresses_are_in_the_state_folder_while_the_pserver_runs(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path, tracker, listen_host="localhost"):
        assert set(state_files.read_addresses(tmp_path / "state")) == {"127.0.0.1", "::1"}
    assert state_files.read_addresses(tmp_path / "state") == []
