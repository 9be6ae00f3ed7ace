"""A pserver that pclient started stops with it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.daemon_client import DaemonClient
from cli.daemon_process import ChildDaemon
from cli.errors import CliError
from cli.settings import read_settings
from eventually import eventually

TESTS = Path(__file__).parents[1]
LAUNCHER = TESTS / "scripted_pserver.py"


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS), str(TESTS.parent / "peer"))))


def env_file(folder: Path, *more: str) -> Path:
    path = folder / ".env_pserver"
    path.write_text("\n".join(("PSERVER_PORT=0", "STATE_DIR=state", *more)) + "\n")
    return path


def start(env: Path, launcher: Path = LAUNCHER) -> None:
    """Start a pserver and stop it.

    Raises:
        CliError: if it does not start.
    """
    child = ChildDaemon(env, env.parent / "state", launcher)
    child.use()
    try:
        child.start(lambda: False)
    finally:
        child.release()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # In a container without an init, an orphan stays a zombie.
    found = Path(f"/proc/{pid}/stat")
    return found.exists() and found.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_child_starts_serves_and_stops(tmp_path: Path) -> None:
    child = ChildDaemon(env_file(tmp_path), tmp_path / "state", LAUNCHER)
    child.use()
    pid = child.start(lambda: False)
    assert pid is not None
    own = tmp_path / ".env_pclient"
    own.write_text("PSERVER_URL=127.0.0.1\nPSERVER_PORT=0\nSTATE_DIR=state\n")
    client = DaemonClient(read_settings(str(own), None), lambda why: None)
    assert client.status().user == ""
    client.close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE(child.log.stat().st_mode) == 0o600
    child.release()
    assert is_gone(pid)
    assert (tmp_path / "state" / "ended").exists()
    child.release()


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(CliError) as caught:
        start(env_file(tmp_path, "FAILS=3"))
    assert caught.value.code == "pserver_unreachable"
    assert "STATE_DIR is in use" in caught.value.message


def test_lines_of_another_pserver_in_the_log_are_not_the_reason(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "import sys\n"
        "sys.exit('pserver: another pserver is running\\n2026-11-30T12:00:00Z INFO the other one logs in')\n"
    )
    with pytest.raises(CliError) as caught:
        start(env_file(tmp_path), launcher)
    assert "did not start: pserver: another pserver is running (" in caught.value.message


def test_a_fault_in_the_env_file_is_bad_env(tmp_path: Path) -> None:
    with pytest.raises(CliError) as caught:
        start(env_file(tmp_path, "FAILS=78"))
    assert caught.value.code == "bad_env"


PARENT = """
import sys, threading, time
from pathlib import Path
from cli.daemon_process import ChildDaemon

# Threads, because Linux may signal the death of each one.
for _ in range(8):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
child = ChildDaemon(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
child.use()
child.start(lambda: False)
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a running child."""
    words = [str(env_file(tmp_path)), str(tmp_path / "state"), str(LAUNCHER)]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        yield process
        process.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_child_stops_cleanly_when_its_parent_is_killed(
    parent: subprocess.Popen[bytes], tmp_path: Path, end: signal.Signals
) -> None:
    pid = int((tmp_path / "state" / "pid").read_text())
    assert not is_gone(pid)
    parent.send_signal(end)
    parent.wait(10)
    eventually(lambda: is_gone(pid))
    # A second SIGTERM would have ended it before it wrote this.
    assert (tmp_path / "state" / "ended").read_text() == "one SIGTERM"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is of Linux")
def test_the_child_stops_when_its_guard_is_killed(parent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pid = int((tmp_path / "state" / "pid").read_text())
    guard = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert guard != parent.pid
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: is_gone(pid))


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = ChildDaemon(env_file(tmp_path, "STUBBORN=true"), tmp_path / "state", LAUNCHER)
    child.use()
    pid = child.start(lambda: False)
    child.release()
    assert pid is not None
    assert is_gone(pid)
