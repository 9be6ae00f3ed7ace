"""The menu as a transcript: lines in, lines out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from cli.main import main
from pclient_runs import Pclient
from scripted_daemon import ID, ScriptedDaemon, downloaded, failed, removed, uploaded

OTHER = "cd" * 32


def menu(pclient: Pclient, *lines: str) -> list[str]:
    """The lines that the menu wrote to stdout for these answers. It must exit with 0."""
    done = pclient(typed="".join(line + "\n" for line in lines))
    assert done.code == 0, done
    return list(done.out.splitlines())


@pytest.fixture
def ana(daemon: ScriptedDaemon) -> ScriptedDaemon:
    """A pserver where ana is logged in."""
    daemon.status.user = "ana"
    return daemon


def test_the_menu_asks_for_user_and_password(pclient: Pclient) -> None:
    done = pclient(typed="ana\nsecret\n0\n")
    assert done.code == 0
    assert done.out.splitlines()[0] == "Logged in as ana"
    assert "tracker" in done.out
    assert [prompt in done.err for prompt in ("Enter username: ", "Enter password: ", "Enter choice: ")] == [True] * 3
    assert "secret" not in done.out + done.err


def test_the_menu_skips_login_when_already_logged_in(ana: ScriptedDaemon, pclient: Pclient) -> None:
    done = pclient(typed="0\n")
    assert done.out.startswith("Logged in as ana\n")
    assert "Enter username" not in done.err


def test_wrong_credentials_are_asked_for_again(pclient: Pclient) -> None:
    shown = menu(pclient, "ana", "wrong", "ana", "secret", "0")
    assert shown[0] == "Invalid credentials: wrong user or password"
    assert shown[1] == "Logged in as ana"


@pytest.mark.parametrize("password", ["", "x" * 1025, "\u00e4" * 513, "\udcff"])
def test_an_impossible_password_is_refused_before_any_call(
    daemon: ScriptedDaemon, pclient: Pclient, password: str
) -> None:
    shown = menu(pclient, "ana", password, "ana", "secret", "9", "secret", password, "9", password, "new", "0")
    assert shown[:2] == ["Error: a password should have 1 to 1024 bytes of UTF-8", "Logged in as ana"]
    assert shown[-2:] == ["Error: a password should have 1 to 1024 bytes of UTF-8"] * 2
    assert len(daemon.requests("Login")) == 1
    assert daemon.requests("ChangePassword") == []


def test_a_user_that_is_not_utf8_is_refused_after_both_lines_are_read(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    done = pclient(typed="an\udcff\nsecret\nana\nsecret\n0\n")
    first, second = done.out.splitlines()[:2]
    assert (first, second) == (r"Error: an\udcff: not UTF-8", "Logged in as ana")
    assert len(daemon.requests("Login")) == 1


@pytest.mark.parametrize("choice", ["1", "2", "5", "8", ""])
def test_input_that_is_not_utf8_is_one_line_and_the_menu_again(
    ana: ScriptedDaemon, pclient: Pclient, choice: str
) -> None:
    done = pclient(typed=f"{choice}\na\udcff\n0\n" if choice else "a\udcff\n0\n")
    assert (done.code, "internal" in done.out + done.err) == (0, False)
    assert ("UTF-8" if choice else "Invalid choice. Enter 0-9") in done.out + done.err
    assert done.err.count("Enter choice: ") == 2


def test_the_first_three_choices(ana: ScriptedDaemon, pclient: Pclient, tmp_path: Path) -> None:
    ana.transfers = [[uploaded("a.txt", "10.0.0.2:5001")], [downloaded("b.txt", "/shared/b.txt")]]
    done = pclient(typed="1\n~/a.txt\n2\nb.txt\n3\nana\nsecret\n0\n")
    heads = ("File uploaded", "File downloaded", "Logged out", "Logged in as ana")
    replies = [line for line in done.out.splitlines() if line.startswith(heads)]
    assert [reply.split(":")[0] for reply in replies] == [
        "Logged in as ana",
        "File uploaded",
        "File downloaded",
        "Logged out ana",
        "Logged in as ana",
    ]
    assert "/shared/b.txt" in replies[2]
    assert ana.requests("Upload")[0].paths[0] == str(Path.home() / "a.txt")
    choices = done.err[: done.err.index("Enter choice: ")].splitlines()
    assert [line.split()[:2] for line in choices if line][-10:][:3] == [
        ["1", "upload"],
        ["2", "download"],
        ["3", "log"],
    ]


def test_replies_start_a_line_when_both_streams_are_one(daemon: ScriptedDaemon, env: str) -> None:
    daemon.transfers = [[uploaded("a", "h:1")]]
    both = io.StringIO()
    assert main([env], io.StringIO("ana\nsecret\n1\na\n3\n0\n"), both, both) == 0
    lines = both.getvalue().splitlines()
    for head in ("Logged in as ana", "File uploaded", "Logged out"):
        assert any(line.startswith(head) for line in lines), head


@pytest.mark.parametrize(
    ("choice", "code", "head"),
    [
        ("1", "no_active_peer", "No active peers available to upload file to"),
        ("1", "no_such_file", "File not found"),
        ("1", "target_exists", "File already exists"),
        ("2", "no_such_file", "File not found"),
        ("2", "target_exists", "File already exists"),
        ("2", "no_holders", "Error"),
    ],
)
def test_refusals_start_with_the_heads_of_the_first_version(
    ana: ScriptedDaemon, pclient: Pclient, choice: str, code: str, head: str
) -> None:
    ana.transfers = [[failed(code, "x", "this is why")]]
    assert f"{head}: this is why" in menu(pclient, choice, "x", "0")


def test_identical_content_is_reported_as_existing(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[downloaded("x", "/shared/x", already_present=True)]]
    assert "File already exists: /shared/x (identical content, nothing to do)" in menu(pclient, "2", "x", "0")


def test_many_files_are_one_reply(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[downloaded(f"folder/{number}") for number in range(2000)]]
    replies = [line for line in menu(pclient, "2", "folder/", "0") if line.startswith("File downloaded")]
    assert replies == ["File downloaded: 2,000 files, 5.86 KiB"]


def test_files_that_were_present_are_counted_separately(ana: ScriptedDaemon, pclient: Pclient) -> None:
    came = [downloaded(f"folder/{number}", already_present=number % 3 == 0) for number in range(12)]
    ana.transfers = [came, [downloaded(f"folder/{number}", already_present=True) for number in range(11)]]
    shown = menu(pclient, "2", "folder/", "2", "folder/", "0")
    assert [line for line in shown if line.startswith("File ")] == [
        "File already exists: 4 files, identical content, nothing to do",
        "File downloaded: 8 files, 24 B",
        "File already exists: 11 files, identical content, nothing to do",
    ]


@pytest.mark.parametrize("choice", ["", "nonsense", "10", "-1", "\x1b[2J", "\uff11"])
def test_a_wrong_choice_is_one_line_and_the_menu_again(ana: ScriptedDaemon, pclient: Pclient, choice: str) -> None:
    done = pclient(typed=f"{choice}\n0\n")
    assert sum("Invalid choice. Enter 0-9" in line for line in done.out.splitlines()) == 1
    assert done.err.count("Enter choice: ") == 2
    assert "\x1b" not in done.out


def test_an_empty_name_is_one_line_and_the_menu_again(ana: ScriptedDaemon, pclient: Pclient) -> None:
    done = pclient(typed="1\n\n2\n  \n0\n")
    assert done.out.count("No file name entered\n") == 2
    assert done.err.count("Enter choice: ") == 3
    assert ana.requests("Upload") == ana.requests("Download") == []


@pytest.mark.parametrize("typed", ["", "ana", "ana\n", "ana\nsecret", "ana\nsecret\n1", "ana\nsecret\n1\n", "0\n"])
def test_the_end_of_input_quits_anywhere(daemon: ScriptedDaemon, pclient: Pclient, typed: str) -> None:
    daemon.transfers = [[uploaded("a")]]
    assert pclient(typed=typed).code == 0
    assert daemon.requests("Logout") == []


def test_the_user_chooses_one_of_several_versions(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[failed("ambiguous_name", "x", ids=(ID, OTHER))], [downloaded("x", "/shared/x")]]
    ana.pages = [
        [pb.ListedFile(name="x", id=ID, size=5, holders=1), pb.ListedFile(name="x", id=OTHER, size=7, holders=2)]
    ]
    done = pclient(typed="2\nx\n2\n0\n")
    assert "2  7 B, 2 holders, id cdcdcdcdcdcd\n" in done.err
    assert ana.requests("Download")[1] == pb.DownloadCommand(names=[OTHER], output="x")
    assert "File downloaded: /shared/x" in done.out


def test_the_choice_of_a_version_shows_when_each_was_modified(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[failed("ambiguous_name", "x", ids=(ID, OTHER))], [downloaded("x", "/shared/x")]]
    noon = 1_500_033_600
    ana.pages = [
        [
            pb.ListedFile(name="x", id=ID, size=5, holders=1, modified=noon),
            pb.ListedFile(name="x", id=OTHER, size=7, holders=2, modified=noon + 61),
        ]
    ]
    lines = [line for line in pclient(typed="2\nx\n2\n0\n").err.splitlines() if "modified" in line]
    assert [line.split(", modified ")[0].split()[-1] for line in lines] == ["abababababab", "cdcdcdcdcdcd"]
    times = [datetime.fromisoformat(line.split(", modified ")[1]).timestamp() for line in lines]
    assert times == [noon, noon + 61]


def test_the_user_chooses_a_version_for_each_ambiguous_name_of_a_pattern(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ambiguous = [failed("ambiguous_name", name, ids=(ID, OTHER)) for name in ("dup.txt", "dup/in.txt", "dup3.txt")]
    came = [[downloaded("dup.txt", "/shared/dup.txt")], [downloaded("dup3.txt", "/shared/dup3.txt")]]
    ana.transfers = [[ambiguous[0], downloaded("dup2.txt", "/shared/dup2.txt"), *ambiguous[1:]], came[0], *came]
    done = pclient(typed="2\ndup*\n1\n2\n1\n0\n")
    assert [line for line in done.err.splitlines() if "versions" in line] == [
        "dup.txt has 2 versions:",
        "dup/in.txt has 2 versions:",
        "dup3.txt has 2 versions:",
    ]
    assert ana.requests("Download")[1:] == [
        pb.DownloadCommand(names=[ID], output="dup.txt"),
        pb.DownloadCommand(names=[OTHER], output=""),
        pb.DownloadCommand(names=[ID], output="dup3.txt"),
    ]
    assert "File downloaded: /shared/dup2.txt" in done.out
    assert "File downloaded: /shared/dup3.txt" in done.out
    assert "ambiguous" not in done.out


@pytest.mark.parametrize("answer", ["3", "0", "", "\u00b2", "9" * 5000])
def test_without_a_chosen_version_nothing_is_downloaded(ana: ScriptedDaemon, pclient: Pclient, answer: str) -> None:
    ana.transfers = [[failed("ambiguous_name", "x", ids=(ID, OTHER))]]
    assert "No such version; nothing was downloaded" in menu(pclient, "2", "x", answer, "0")


def test_a_name_may_begin_with_a_space(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[downloaded(" lead.txt", "/shared/ lead.txt")]]
    # Spaces around a choice are removed, and those after a name.
    assert "File downloaded: /shared/ lead.txt" in menu(pclient, " 2 ", " lead.txt ", "0")
    assert ana.requests("Download") == [pb.DownloadCommand(names=[" lead.txt"])]


def test_a_pipe_is_not_asked_for_another_name(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[failed("target_exists", "x")]]
    shown = menu(pclient, "2", "x", "3", "0")
    assert shown[-2:] == ["File already exists: it is target_exists", "Logged out ana"]


def test_a_failed_removal_is_a_reply(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[failed("no_such_file", "x")]]
    assert menu(pclient, "8", "x", "0")[-1] == "File not found: it is no_such_file"


def test_failed_files_of_a_folder_are_named(ana: ScriptedDaemon, pclient: Pclient, tmp_path: Path) -> None:
    (tmp_path / "proj").mkdir()
    faults = [
        failed("bad_name", "proj/.hid", "hidden files are not shared"),
        failed("target_exists", "proj/x", "proj/x exists"),
    ]
    ana.transfers = [faults, faults, faults, faults]
    shown = menu(pclient, "1", str(tmp_path / "proj"), "2", "proj/", "2", "p*", "8", "proj/", "0")
    assert (
        shown[-8:]
        == [
            "Error: proj/.hid: hidden files are not shared",
            "File already exists: proj/x exists",
        ]
        * 4
    )


def test_an_unreachable_pserver_is_reported_once_per_choice(ana: ScriptedDaemon, pclient: Pclient) -> None:
    gone = (grpc.StatusCode.UNAVAILABLE, "pserver_unreachable", "no pserver answers")
    ana.refusals = dict.fromkeys(("Status", "ListPeers"), gone)
    shown = menu(pclient, "6", "6", "6", "0")
    # Once before any choice.
    assert shown == ["Error: no pserver answers"] * 4


class Typing(io.StringIO):
    """stdin whose lines come from an iterator, which may act before each."""

    def __init__(self, lines: Iterator[str]) -> None:
        super().__init__()
        self._lines = lines

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override]
        return next((line + "\n" for line in self._lines), "")


def test_a_pserver_that_stops_again_is_reported_again(ana: ScriptedDaemon, env: str) -> None:
    gone = (grpc.StatusCode.UNAVAILABLE, "pserver_unreachable", "no pserver answers")

    def typed() -> Iterator[str]:
        ana.refusals = dict.fromkeys(("Status", "ListPeers"), gone)
        yield "6"
        # It answers for this choice only.
        del ana.refusals["ListPeers"]
        yield "6"
        yield "0"

    out = io.StringIO()
    assert main([env], Typing(typed()), out, io.StringIO()) == 0
    assert out.getvalue().count("Error: no pserver answers\n") == 2


def test_a_pserver_that_stops_again_at_the_login_is_reported_again(daemon: ScriptedDaemon, env: str) -> None:
    gone = (grpc.StatusCode.UNAVAILABLE, "pserver_unreachable", "no pserver answers")

    def typed() -> Iterator[str]:
        daemon.refusals = {"Login": gone}
        yield from ("ana", "secret")
        # It answers the first status call, and not the second.
        daemon.refusals = {"Status": gone}
        yield from ("", "0")

    out = io.StringIO()
    assert main([env], Typing(typed()), out, io.StringIO()) == 0
    assert out.getvalue().count("Error: no pserver answers\n") == 2


def test_entries_four_to_nine(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.pages = [[pb.ListedFile(name="x.iso", id=ID, size=5, holders=1)]]
    ana.peers = [pb.ListedPeer(address="10.0.0.9:1", user="ben")]
    ana.transfers = [[removed("x.iso")]]
    shown = "\n".join(menu(pclient, "4", "5", "iso", "6", "7", "8", "x.iso", "9", "old", "new", "0"))
    assert shown.count("x.iso") == 3
    assert "10.0.0.9:1" in shown
    assert "/state" in shown
    assert "File removed: x.iso" in shown
    assert "Password changed for ana" in shown
    assert [request.match for request in ana.requests("ListFiles")] == ["", "iso"]


def test_an_ended_session_is_reported(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.refusals["ListPeers"] = (grpc.StatusCode.UNAUTHENTICATED, "not_logged_in", "log in first")
    done = pclient(typed="6\n0\n")
    assert "Error: log in first" in done.out


def test_a_failure_of_any_kind_is_one_line_and_the_menu_again(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.refusals["ListPeers"] = (grpc.StatusCode.INTERNAL, "", "inside")
    done = pclient(typed="6\n0\n")
    assert done.out.splitlines()[-1].startswith("Error: internal error")
    assert done.err.count("Enter choice: ") == 2


def test_a_hint_is_worded_for_the_menu(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [
        [failed("no_such_file", "x", 'no online peer has "x"', hint=pb.HINT_LIST_FILES)],
        [failed("target_exists", "x", "x exists with different content", hint=pb.HINT_OTHER_NAME)],
    ]
    advice = "Rename it, remove it (choice 8), or download it alone (choice 2) under another name"
    shown = menu(pclient, "2", "x", "2", "x", "0")
    assert shown[-2:] == [
        'File not found: no online peer has "x". Choose 4 to list files',
        "File already exists: x exists with different content. " + advice,
    ]


def test_more_than_ten_faults_are_counted(ana: ScriptedDaemon, pclient: Pclient) -> None:
    ana.transfers = [[failed("bad_name", f"d/.{number}") for number in range(17)]]
    assert menu(pclient, "2", "d/", "0")[-1] == "... and 7 more skipped"
