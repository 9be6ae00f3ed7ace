"""./bootstrap/demo, alone, twice at once, interrupted, and with a terminal."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
import pytest

from programs import TOP

DEMO = [sys.executable, str(TOP / "bootstrap" / "demo.py")]


def begin(*arguments: str, folder: Path, stderr: int = subprocess.STDOUT) -> "subprocess.Popen[str]":
    """Start a demo whose temporary folder is `folder`."""
    return subprocess.Popen(
        [*DEMO, "--size", "8", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of running processes that contain `folder`."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def test_two_concurrent_demos_transfer_files_and_clean_up(tmp_path: Path) -> None:
    demos = [begin("--once", folder=tmp_path) for _ in range(2)]
    for demo in demos:
        shown, _ = demo.communicate(timeout=100)
        assert demo.returncode == 0, shown
        digests = re.findall(r"(?m)^  ([0-9a-f]{64})$", shown)
        assert len(set(digests)) == 2
        assert all(digests.count(each) == 2 for each in digests)
        assert all(f"\n  Logged in as {user} (a new account)\n" in shown for user in ("ana", "ben"))
        # The last lines name no address and no folder, since both are gone.
        last = shown.rpartition("Both files are on both peers now")[2]
        assert "http://127.0.0.1:" in shown
        assert "http://" not in last
        assert str(tmp_path) not in last
        assert max(map(len, last.splitlines())) <= 78
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_closed_stdout_ends_the_demo_quietly(tmp_path: Path) -> None:
    demo = begin("--once", folder=tmp_path, stderr=subprocess.PIPE)
    assert demo.stdout is not None
    assert demo.stderr is not None
    assert demo.stdout.readline()
    demo.stdout.close()
    errors = demo.stderr.read()
    demo.wait(60)
    demo.stderr.close()
    assert "BrokenPipe" not in errors
    assert "Traceback" not in errors
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    demo = begin("--once", folder=tmp_path)
    assert demo.stdout is not None
    while "peer1 listens" not in (line := demo.stdout.readline()):
        assert line
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode != 0
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_the_demo_opens_the_second_peers_menu() -> None:
    with tempfile.TemporaryDirectory() as folder:
        terminal = pexpect.spawn(
            DEMO[0],
            [*DEMO[1:], "--size", "8"],
            env={**os.environ, "TMPDIR": folder, "TERM": "xterm"},
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 120),
        )
        terminal.expect("dashboard")
        terminal.expect("This is .*its files[.]")
        plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.after)
        assert max(map(len, plain.splitlines())) <= 78
        terminal.expect("Enter choice: ")
        terminal.sendline("0")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0
        assert processes_in(Path(folder)) == []
