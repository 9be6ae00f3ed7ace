"""pclients that start at the same time share one pserver: it ends with the last of them, however the others end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventually import eventually
from ports import reserve_port
from programs import PCLIENT, PSERVER, Program

PCLIENTS = 8
STARTED, SHARED, PROMPT = "Started a pserver", "Using the pserver that another pclient started", "Enter username:"


class Peer:
    """The env files and folders of one peer. Its tracker does not answer."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.env_pserver, self.env_pclient = folder / ".env_pserver", folder / ".env_pclient"
        own = "PSERVER_URL=127.0.0.1\nPSERVER_PORT=0\nSTATE_DIR=state\n"
        self.env_pclient.write_text(own)
        more = f"PSERVER_LOCAL_URL=127.0.0.1\nSERVER_URL=127.0.0.1\nSERVER_PORT={reserve_port()}\nSHARED_DIR=shared\n"
        self.env_pserver.write_text(own + more)

    def open_menu(self, stack: ExitStack) -> "Menu":
        """Start pclient with both env files; it waits for a user name."""
        process = subprocess.Popen(
            [sys.executable, str(PCLIENT), str(self.env_pclient), str(self.env_pserver)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        return Menu(process)

    def status(self, *env: Path) -> dict[str, object]:
        """Run `status`; return its object."""
        words = [sys.executable, str(PCLIENT), str(self.env_pclient), *map(str, env), "status", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def is_stopped(self) -> bool:
        """Whether no pserver runs: it removes its port file at its end."""
        return not (self.state / "port").exists()


class Menu:
    """A pclient whose menu is open."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.said = ""

    def wait_for_prompt(self) -> None:
        assert self._process.stderr is not None
        while PROMPT not in self.said:
            piece = os.read(self._process.stderr.fileno(), 4096)
            assert piece, self.said
            self.said += piece.decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """Close its stdin; return its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(60)


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    return Peer(tmp_path)


@pytest.fixture
def menus(peer: Peer) -> Iterator[list[Menu]]:
    """The menus of pclients that were started at the same time, and are ready."""
    with ExitStack() as stack:
        menus = [peer.open_menu(stack) for _ in range(PCLIENTS)]
        for menu in menus:
            menu.wait_for_prompt()
        yield menus
    eventually(peer.is_stopped)


def test_one_of_them_starts_the_pserver_and_the_others_use_it(menus: list[Menu]) -> None:
    assert sorted((menu.said.count(STARTED), menu.said.count(SHARED)) for menu in menus) == [
        *[(0, 1)] * (PCLIENTS - 1),
        (1, 0),
    ]


def test_the_pserver_outlives_the_pclient_that_started_it_and_ends_with_the_last_one(
    peer: Peer, menus: list[Menu]
) -> None:
    cookie = (peer.state / "cookie").read_bytes()
    [first] = [menu for menu in menus if STARTED in menu.said]
    first.kill()
    others = [menu for menu in menus if menu is not first]
    for menu in others[:-1]:
        assert menu.end() == 0
        # The same process: a new one has a new cookie.
        assert (peer.state / "cookie").read_bytes() == cookie
    assert peer.status()["logged_in"] is False
    assert not peer.is_stopped()
    assert others[-1].end() == 0
    assert peer.is_stopped()


def test_the_pserver_ends_when_the_last_pclient_is_killed(peer: Peer, menus: list[Menu]) -> None:
    for menu in menus:
        menu.kill()
    eventually(peer.is_stopped)


def test_commands_that_overlap_in_any_way_never_miss_the_pserver(peer: Peer) -> None:
    """Each start may meet a pserver that starts, runs or stops."""
    words = [sys.executable, str(PCLIENT), str(peer.env_pclient), str(peer.env_pserver), "status", "--json"]
    running: list[subprocess.Popen[bytes]] = []
    for _ in range(20):
        running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        if len(running) == 3:
            assert running.pop(0).wait(120) == 0
    assert [process.wait(120) for process in running] == [0] * len(running)
    eventually(peer.is_stopped)


def test_a_pserver_that_was_started_by_hand_is_never_ended(peer: Peer, tmp_path: Path) -> None:
    program = Program("pserver", PSERVER, [peer.env_pserver], tmp_path / "pserver.log")
    program.start()
    try:
        with ExitStack() as stack:
            menus = [peer.open_menu(stack) for _ in range(3)]
            for menu in menus:
                menu.wait_for_prompt()
                assert STARTED not in menu.said
                assert SHARED not in menu.said
            menus[0].kill()
            assert [menu.end() for menu in menus[1:]] == [0, 0]
        assert peer.status(peer.env_pserver)["logged_in"] is False
        assert program.running
    finally:
        program.signal(signal.SIGTERM)
        program.wait()
