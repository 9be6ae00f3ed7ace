"""A pserver that a terminal started lives and dies with it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from terminal import minder
from terminal.child import Child
from terminal.errors import TerminalError
from terminal.node_client import NodeClient
from terminal.settings import read_settings
from waiting import eventually

TESTS = Path(__file__).parents[1]
LAUNCHER = TESTS / "scripted_pserver.py"


@pytest.fixture(autouse=True)
def _where_our_packages_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS), str(TESTS.parent / "peer"))))


def env_file(folder: Path, *more: str) -> Path:
    path = folder / ".env_pserver"
    path.write_text("\n".join(("PSERVER_PORT=0", "STATE_DIR=state", *more)) + "\n")
    return path


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that nobody reaps, in a container without an init, is gone all the same.
    found = Path(f"/proc/{pid}/stat")
    return found.exists() and found.read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_starts_serves_and_ends(tmp_path: Path) -> None:
    child = Child(env_file(tmp_path), tmp_path / "state", LAUNCHER)
    pid = child.start()
    own = tmp_path / ".env_pclient"
    own.write_text("PSERVER_URL=127.0.0.1\nPSERVER_PORT=0\nSTATE_DIR=state\n")
    client = NodeClient(read_settings(str(own), None), lambda why: None)
    assert client.status().user == ""
    client.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE(child.log.stat().st_mode) == 0o600
    child.stop()
    assert gone(pid)
    assert (tmp_path / "state" / "ended").exists()
    child.stop()


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(TerminalError) as caught:
        Child(env_file(tmp_path, "FAILS=3"), tmp_path / "state", LAUNCHER).start()
    assert caught.value.code == "pserver_unreachable"
    assert "STATE_DIR is in use" in caught.value.message


def test_a_fault_in_its_env_file_is_bad_env(tmp_path: Path) -> None:
    with pytest.raises(TerminalError) as caught:
        Child(env_file(tmp_path, "FAILS=78"), tmp_path / "state", LAUNCHER).start()
    assert caught.value.code == "bad_env"


TERMINAL = """
import sys
from pathlib import Path
from terminal import child, minder

if sys.argv[4] == "watched":
    # As on a system without PR_SET_PDEATHSIG.
    minder.__file__ = sys.argv[5]
found = child.Child(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
found.start()
print("started", flush=True)
sys.stdin.read()
"""

WATCHED = """
import sys
from terminal import minder

sys.exit(minder.watch([sys.executable, *sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    "way", [pytest.param("prctl", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only")), "watched"]
)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_when_its_terminal_is_killed(tmp_path: Path, way: str, end: signal.Signals) -> None:
    watched = tmp_path / "watched.py"
    watched.write_text(WATCHED)
    words = [str(env_file(tmp_path)), str(tmp_path / "state"), str(LAUNCHER), way, str(watched)]
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as terminal:
        assert terminal.stdout is not None
        assert terminal.stdout.readline() == b"started\n"
        pid = int((tmp_path / "state" / "pid").read_text())
        assert not gone(pid)
        terminal.send_signal(end)
        terminal.wait(10)
        eventually(lambda: gone(pid), 10)
    assert (tmp_path / "state" / "ended").exists()


def test_a_parent_that_died_before_it_was_watched_starts_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, minder.__file__, "1" if os.getpid() != 1 else "2", str(LAUNCHER), str(env_file(tmp_path))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == b""
