"""The first five minutes: ./bootstrap/demo, and two of them at once."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pexpect
import pytest

from programs import TOP

DEMO = [sys.executable, str(TOP / "bootstrap" / "demo.py")]


def begin(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a demo whose temporary folder is `folder`."""
    return subprocess.Popen(
        [*DEMO, "--size", "8", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that name `folder`."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def test_two_demos_side_by_side_each_show_a_transfer_and_clean_up(tmp_path: Path) -> None:
    demos = [begin("--once", folder=tmp_path) for _ in range(2)]
    for demo in demos:
        shown, _ = demo.communicate(timeout=100)
        assert demo.returncode == 0, shown
        digests = [line.split()[0] for line in shown.splitlines() if line.startswith("  ") and "(ana)" in line]
        assert len(digests) == 2
        assert all(shown.count(each) == 2 for each in digests)
        assert "http://127.0.0.1:" in shown
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


def test_with_a_terminal_the_second_peers_menu_opens() -> None:
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
        terminal.expect("Enter choice: ")
        terminal.sendline("0")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0
        assert processes_in(Path(folder)) == []
