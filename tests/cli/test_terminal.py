"""pclient in a real pseudo-terminal: passwords, bars, colours, Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType

import grpc
import pexpect
import pytest

import pserver_pb2 as pb
from cli.daemon_client import DaemonClient
from cli.screen import Screen
from cli.settings import read_settings
from cli.transfer_follower import follow
from eventually import eventually
from scripted_daemon import ID, ScriptedDaemon, downloaded, failed, moving, removed, uploaded

LAUNCHER = Path(__file__).parents[2] / "peer" / "pclient.py"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def spawn(env: str, *words: str, **environment: str) -> pexpect.spawn[str]:
    kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    return pexpect.spawn(
        sys.executable,
        [str(LAUNCHER), env, *words],
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 100),
        env={**kept, "TERM": "xterm", **environment},
    )


def piped(
    env: str, *words: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, unbuffered: str = ""
) -> subprocess.CompletedProcess[str]:
    """pclient without a terminal."""
    return subprocess.run(
        [sys.executable, str(LAUNCHER), env, *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )


def exit_code(terminal: pexpect.spawn[str]) -> int | None:
    terminal.expect(pexpect.EOF)
    terminal.close()
    code: int | None = terminal.exitstatus
    return code


def test_the_password_is_not_echoed(daemon: ScriptedDaemon, env: str) -> None:
    terminal = spawn(env)
    terminal.expect("Enter username: ")
    terminal.sendline("ana")
    terminal.expect("Enter password: ")
    terminal.waitnoecho()
    terminal.sendline("secret")
    terminal.expect("\r\nLogged in as ana")
    assert "secret" not in str(terminal.before)
    terminal.expect("Enter choice: ")
    terminal.sendline("0")
    assert exit_code(terminal) == 0


def test_replies_start_a_line(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    daemon.transfers = [[moving("a", 1, 2), uploaded("a", "h:1")], [moving("b", 1, 2), downloaded("b", "/shared/b")]]
    terminal = spawn(env)
    for choice, name, reply in (("1", "a", "File uploaded"), ("2", "b", "File downloaded: /shared/b")):
        terminal.expect("Enter choice: ")
        terminal.sendline(choice)
        terminal.expect("Enter file name: ")
        terminal.sendline(name)
        terminal.expect(rf"(\r\n|\r|\x1b\[\d*[A-Za-z]){reply}")
    terminal.expect("Enter choice: ")
    terminal.sendline("3")
    terminal.expect("\r\nLogged out")
    terminal.expect("Enter username: ")
    terminal.sendeof()
    assert exit_code(terminal) == 0


def test_ctrl_c_cancels_the_transfer_and_says_how_to_resume(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[moving("big.iso", 40 << 20, 100 << 20)]]
    daemon.holds = True
    terminal = spawn(env, "download", "big.iso")
    terminal.expect("40 %")
    terminal.sendintr()
    terminal.expect("run the same command again to resume")
    assert exit_code(terminal) == 130
    assert daemon.requests("Cancel") == [pb.CancelTransferRequest(transfer=7)]


def test_ctrl_c_cancels_a_removal_and_shows_what_was_removed(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[removed("a.iso")]]
    daemon.holds = True
    terminal = spawn(env, "remove", "*.iso", "--yes")
    terminal.expect("File removed: a.iso")
    terminal.sendintr()
    terminal.expect("run the same command again to remove the rest")
    assert exit_code(terminal) == 130
    assert daemon.requests("Cancel") == [pb.CancelTransferRequest(transfer=7)]


def _download_calls(daemon: ScriptedDaemon, times: int) -> bool:
    return len(daemon.requests("Download")) == times


def test_two_ctrl_c_at_once_send_the_cancel_request(daemon: ScriptedDaemon, env: str) -> None:
    daemon.holds = True
    for turn in range(1, 16):
        daemon.cancelled.clear()
        daemon.transfers = [[]]
        words = [sys.executable, str(LAUNCHER), env, "download", "big.iso", "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as terminal:
            # `timeout -s INT` signals a process and then its group. Some signals arrive while the command is sent.
            eventually(partial(_download_calls, daemon, turn))
            terminal.send_signal(signal.SIGINT)
            time.sleep(turn / 5000)
            terminal.send_signal(signal.SIGINT)
            out, err = terminal.communicate(timeout=20)
        assert terminal.returncode == 130, (out, err)
        assert b'"interrupted"' in out
        assert daemon.requests("Cancel") == [pb.CancelTransferRequest(transfer=7)] * turn


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_during_authentication_ends_the_command(daemon: ScriptedDaemon, env: str, signals: int) -> None:
    # The first proof succeeds, the second hangs.
    daemon.proofs = 1
    words = [sys.executable, str(LAUNCHER), env, "remove", "x", "--yes"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as terminal:
        eventually(lambda: len(daemon.requests("Prove")) == 2)
        for _ in range(signals):
            terminal.send_signal(signal.SIGINT)
        out, err = terminal.communicate(timeout=20)
    assert (terminal.returncode, out, err.strip()) == (130, b"", b"")
    assert len(daemon.requests("Prove")) == 2
    assert daemon.requests("Remove") == []


def test_ctrl_c_during_authentication_returns_to_the_menu(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    # The third proof hangs: that of the download.
    daemon.proofs = 2
    terminal = spawn(env)
    terminal.expect("Enter choice: ")
    terminal.sendline("2")
    terminal.expect("Enter file name: ")
    terminal.sendline("big.iso")
    eventually(lambda: len(daemon.requests("Prove")) == 3)
    daemon.proofs = None
    terminal.sendintr()
    terminal.expect("Enter choice: ")
    terminal.sendline("0")
    assert exit_code(terminal) == 0
    assert daemon.requests("Download") == []


def test_ctrl_c_before_the_command_is_sent_prevents_it(daemon: ScriptedDaemon, env: str) -> None:
    client = DaemonClient(read_settings(env, None), lambda why: None)

    def interrupt(_frame: FrameType, _event: str, _argument: object) -> None:
        """Send Ctrl-C once it is counted. A profile function runs between any two calls."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        screen = Screen(io.StringIO(), io.StringIO(), as_json=False, quiet=True)
        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            follow(client, lambda: client.download(["big.iso"], ""), screen, "downloading")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
        client.close()
    assert daemon.requests("Download") == []


def test_a_failed_cancel_says_that_the_transfer_still_runs(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[moving("big.iso", 40 << 20, 100 << 20)]]
    daemon.holds = True
    daemon.refusals["Cancel"] = (grpc.StatusCode.INTERNAL, "internal", "out of order")
    terminal = spawn(env, "download", "big.iso")
    terminal.expect("40 %")
    terminal.sendintr()
    terminal.expect("was not cancelled and still runs")
    assert exit_code(terminal) == 130


def test_ctrl_c_in_json_is_an_object_and_130(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[]]
    daemon.holds = True
    terminal = spawn(env, "download", "big.iso", "--json")
    eventually(lambda: daemon.requests("Download"))
    terminal.sendintr()
    terminal.expect('"code": "interrupted"')
    assert exit_code(terminal) == 130


def test_ctrl_c_in_the_menu_cancels_the_transfer(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    daemon.transfers = [[moving("big.iso", 40, 100)]]
    daemon.holds = True
    terminal = spawn(env)
    terminal.expect("Enter choice: ")
    terminal.sendline("2")
    terminal.expect("Enter file name: ")
    terminal.sendline("big.iso")
    terminal.expect("40 %")
    terminal.sendintr()
    terminal.expect("Cancelled. Verified data is kept")
    terminal.expect("Enter choice: ")
    terminal.sendline("1")
    terminal.expect("Enter file name: ")
    terminal.sendintr()
    terminal.expect("Enter choice: ")
    terminal.sendintr()
    assert exit_code(terminal) == 130
    assert len(daemon.requests("Cancel")) == 1


@pytest.mark.parametrize(
    ("choice", "prompt"), [("5", "Enter part of a name: "), ("9", "Old password: "), ("2", "Enter file name: ")]
)
def test_ctrl_c_at_a_prompt_returns_to_the_menu(daemon: ScriptedDaemon, env: str, choice: str, prompt: str) -> None:
    daemon.status.user = "ana"
    terminal = spawn(env)
    terminal.expect("Enter choice: ")
    terminal.sendline(choice)
    terminal.expect(prompt)
    if "password" in prompt:
        terminal.waitnoecho()
    terminal.sendintr()
    terminal.expect("Enter choice: ")
    terminal.sendline("0")
    assert exit_code(terminal) == 0


@pytest.mark.parametrize(
    ("words", "answers", "prompt"),
    [
        (("remove", "x"), (), "Remove this peer's copy of x"),
        (("passwd",), ("old", "new"), "New password again: "),
        (("login", "ana"), (), "Enter password: "),
    ],
)
def test_the_end_of_input_at_a_prompt_of_a_command_is_an_error(
    daemon: ScriptedDaemon, env: str, words: tuple[str, ...], answers: tuple[str, ...], prompt: str
) -> None:
    terminal = spawn(env, *words, TERM="dumb")
    for answer in answers:
        terminal.expect("password: ")
        terminal.waitnoecho()
        terminal.sendline(answer)
    terminal.expect(prompt)
    if "password" in prompt:
        terminal.waitnoecho()
    terminal.sendeof()
    terminal.expect("\r\nerror: ")
    assert exit_code(terminal) == 2
    assert "internal" not in str(terminal.before)
    assert [name for name, _ in daemon.calls if name != "Prove"] == []


def test_the_end_of_input_at_a_password_prompt_ends_its_line(daemon: ScriptedDaemon, env: str) -> None:
    terminal = spawn(env)
    terminal.expect("Enter username: ")
    terminal.sendline("ana")
    terminal.expect("Enter password: ")
    terminal.waitnoecho()
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert str(terminal.before) == "\r\n"
    assert exit_code(terminal) == 0


def test_a_password_in_another_encoding_is_refused(daemon: ScriptedDaemon, env: str) -> None:
    terminal = spawn(env)
    terminal.expect("Enter username: ")
    terminal.sendline("ana")
    terminal.expect("Enter password: ")
    terminal.waitnoecho()
    os.write(terminal.child_fd, b"caf\xe9\n")
    terminal.expect("\r\nError: a password should have 1 to 1024 bytes of UTF-8")
    terminal.expect("Enter username: ")
    terminal.sendeof()
    assert exit_code(terminal) == 0


def test_a_terminal_that_dies_cancels_nothing(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[moving("big.iso", 40, 100)]]
    daemon.holds = True
    terminal = spawn(env, "download", "big.iso")
    terminal.expect("40 %")
    terminal.kill(9)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert not daemon.cancelled.is_set()


def test_nohup_makes_pclient_survive_its_terminal(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[]]
    daemon.holds = True
    command = ["nohup", sys.executable, str(LAUNCHER), env, "download", "big.iso"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        eventually(lambda: daemon.requests("Download"))
        run.send_signal(signal.SIGHUP)
        daemon.cancelled.set()
        assert run.wait(20) == 75


def test_the_bar_shows_bytes_speed_time_and_peers(daemon: ScriptedDaemon, env: str) -> None:
    good = pb.Source(address="10.0.0.2:5001", rate=5e6, bytes=1, state="active")
    bad = pb.Source(address="10.0.0.3:5001", state="dropped", reason="sent a wrong piece")
    daemon.transfers = [
        [moving("big.iso", 25 << 20, 100 << 20, 25 << 20, sources=[good, bad], files_done=1, files_total=3)]
    ]
    daemon.holds = True
    terminal = spawn(env, "download", "big.iso")
    terminal.expect("sent a wrong piece")
    seen = str(terminal.before)
    for part in (
        "downloading",
        "big.iso",
        "1 of 3 files",
        "25 %",
        "25.0 MiB of 100 MiB",
        "25.0 MiB/s",
        "0:03 left",
        "1 peer",
    ):
        assert part in seen, part
    assert COLOUR.search(seen)
    terminal.sendintr()
    assert exit_code(terminal) == 130


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_off(daemon: ScriptedDaemon, env: str, environment: dict[str, str]) -> None:
    daemon.status.user = "ana"
    daemon.pages = [[pb.ListedFile(name="x", id=ID, size=1, holders=1)]]
    daemon.transfers = [[moving("x", 1, 2), downloaded("x")]]
    for words in (["status"], ["files"], ["download", "x"], ["nonsense", "x"]):
        terminal = spawn(env, *words, **environment)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert not COLOUR.search(str(terminal.before))


def test_remove_asks_for_confirmation_on_a_terminal(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[removed("x")]]
    terminal = spawn(env, "remove", "x")
    terminal.expect("Remove this peer's copy of x")
    terminal.sendline("n")
    terminal.expect("nothing was removed")
    assert exit_code(terminal) == 0
    assert daemon.requests("Remove") == []
    terminal = spawn(env, "remove", "x")
    terminal.expect("Remove this peer's copy of x")
    terminal.sendline("y")
    terminal.expect("File removed: x")
    assert exit_code(terminal) == 0


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("x", "y"), "Remove this peer's copies of 2 files? [y/N] "),
        (("songs/", "x"), "Remove this peer's copies of all files that match songs/ x?"),
        (("*.jpg",), "Remove this peer's copies of all files that match *.jpg?"),
    ],
)
def test_the_confirmation_names_what_remove_deletes(
    daemon: ScriptedDaemon, env: str, words: tuple[str, ...], question: str
) -> None:
    terminal = spawn(env, "remove", *words)
    terminal.expect_exact(question)
    terminal.sendline("n")
    assert exit_code(terminal) == 0


def test_the_menu_asks_for_another_name_when_the_name_is_occupied(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    daemon.transfers = [
        [failed("target_exists", "x")],
        [failed("target_exists", "y")],
        [downloaded("z", "/shared/z")],
        [failed("target_exists", "x")],
    ]
    terminal = spawn(env)
    for answers, reply in ((("y", "z"), "File downloaded: /shared/z"), (("",), "Enter choice: ")):
        terminal.expect("Enter choice: ")
        terminal.sendline("2")
        terminal.expect("Enter file name: ")
        terminal.sendline("x")
        for answer in answers:
            terminal.expect("File already exists")
            terminal.expect(r"Save as \(Enter to cancel\): ")
            terminal.sendline(answer)
        terminal.expect(reply)
    terminal.sendline("0")
    assert exit_code(terminal) == 0
    assert [(list(sent.names), sent.output) for sent in daemon.requests("Download")] == [
        (["x"], ""),
        (["x"], "y"),
        (["x"], "z"),
        (["x"], ""),
    ]


def test_passwd_asks_for_the_new_password_twice(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    for again, code in (("other", 2), ("new", 0)):
        terminal = spawn(env, "passwd")
        for prompt, answer in (("Old password: ", "old"), ("New password: ", "new"), ("New password again: ", again)):
            terminal.expect(prompt)
            terminal.waitnoecho()
            terminal.sendline(answer)
        assert exit_code(terminal) == code
    assert len(daemon.requests("ChangePassword")) == 1


def test_the_menu_asks_for_the_new_password_twice_too(daemon: ScriptedDaemon, env: str) -> None:
    daemon.status.user = "ana"
    terminal = spawn(env)
    for again, reply in (("other", "The new passwords differ"), ("new", "Password changed")):
        terminal.expect("Enter choice: ")
        terminal.sendline("9")
        for prompt, answer in (("Old password: ", "old"), ("New password: ", "new"), ("New password again: ", again)):
            terminal.expect(prompt)
            terminal.waitnoecho()
            terminal.sendline(answer)
        terminal.expect(reply)
    assert len(daemon.requests("ChangePassword")) == 1


@pytest.mark.parametrize("words", [("login", "eve"), ()])
def test_a_new_account_is_confirmed_on_a_terminal(daemon: ScriptedDaemon, env: str, words: tuple[str, ...]) -> None:
    for confirmed, again, reply in (
        ("n", "", "no account 'eve'"),
        ("y", "other", "differ"),
        ("y", "new", "Logged in as eve"),
    ):
        terminal = spawn(env, *words)
        if not words:
            terminal.expect("Enter username: ")
            terminal.sendline("eve")
        terminal.expect("Enter password: ")
        terminal.waitnoecho()
        terminal.sendline("new")
        terminal.expect_exact("Create a new account eve? [y/N] ")
        terminal.sendline(confirmed)
        if confirmed == "y":
            terminal.expect("Enter password again: ")
            terminal.waitnoecho()
            terminal.sendline(again)
        terminal.expect(reply)
        if not words:
            terminal.expect("Enter username: " if "Logged" not in reply else "Enter choice: ")
            terminal.sendline("0")
            assert exit_code(terminal) == 0
        else:
            assert exit_code(terminal) == {"no account 'eve'": 77, "differ": 2, "Logged in as eve": 0}[reply]
    assert [request.register for request in daemon.requests("Login")] == [False, False, False, True]


def test_a_long_list_into_a_closed_pipe_is_no_traceback(daemon: ScriptedDaemon, env: str) -> None:
    daemon.pages = [[pb.ListedFile(name=f"{number:0100}", id=ID, size=1, holders=1) for number in range(5000)]]
    terminal = pexpect.spawn(
        "sh",
        ["-c", f"'{sys.executable}' '{LAUNCHER}' '{env}' files --json | head -1; echo over"],
        encoding="utf-8",
        timeout=20,
    )
    terminal.expect("over")
    assert "Traceback" not in str(terminal.before)
    assert "Exception" not in str(terminal.before)


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("files", "--json"), ("download", "x", "--json")])
def test_a_stdout_that_is_full_is_a_line_and_no_traceback(
    daemon: ScriptedDaemon, env: str, words: tuple[str, ...]
) -> None:
    daemon.pages = [[pb.ListedFile(name="a", id=ID, size=1, holders=1)]]
    daemon.transfers = [[downloaded("x")]]
    with Path("/dev/full").open("w") as full:
        done = piped(env, *words, stdout=full.fileno())
    assert (done.returncode, done.stderr) == (74, "error: stdout cannot be written: No space left on device\n")


def test_pclient_works_without_stdout_and_stderr(daemon: ScriptedDaemon, env: str) -> None:
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, str(LAUNCHER), env, "logout"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=20, check=False).returncode == 0
    assert len(daemon.requests("Logout")) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--json", "nosuch"), ("--help",), ("--help", "--json")])
def test_a_closed_pipe_is_no_traceback(
    daemon: ScriptedDaemon, env: str, words: tuple[str, ...], unbuffered: str
) -> None:
    closed, stdout = os.pipe()
    os.close(closed)
    done = piped(env, *words, stdout=stdout, unbuffered=unbuffered)
    os.close(stdout)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_into_a_full_stdout_is_a_line_and_74(daemon: ScriptedDaemon, env: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = piped(env, "--help", stdout=full.fileno(), unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (74, "error: stdout cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "code"), [(("download", "nosuch"), 66), (("files", "none"), 0), (("passwd", "--nosuch"), 2)]
)
def test_a_full_stderr_changes_no_exit_code(
    daemon: ScriptedDaemon, env: str, words: tuple[str, ...], code: int
) -> None:
    daemon.transfers = [[failed("no_such_file", "nosuch")]]
    with Path("/dev/full").open("w") as full:
        assert piped(env, *words, stderr=full.fileno()).returncode == code


@pytest.mark.parametrize("answer", ["y", "n"])
def test_the_menu_offers_a_link_when_there_is_no_room_for_a_copy(daemon: ScriptedDaemon, env: str, answer: str) -> None:
    daemon.status.user = "ana"
    daemon.transfers = [[failed("disk_full", "a.iso", hint=pb.HINT_LINK)], [uploaded("a.iso", "10.0.0.2:5001")]]
    terminal = spawn(env)
    terminal.expect("Enter choice: ")
    terminal.sendline("1")
    terminal.expect("Enter file name: ")
    terminal.sendline("/disc/a.iso")
    terminal.expect_exact("Share it by a hard link? [y/N] ")
    terminal.sendline(answer)
    terminal.expect("File uploaded" if answer == "y" else "it is disk_full")
    terminal.expect("Enter choice: ")
    terminal.sendline("0")
    terminal.expect(pexpect.EOF)
    assert [command.link for command in daemon.requests("Upload")] == [False, True][: 2 if answer == "y" else 1]
