"""Commands: their calls to the pserver, their output, and their exit codes."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from cli.errors import EXIT_CODES
from common.control_messages import Hint
from pclient_runs import Pclient
from scripted_daemon import ID, ScriptedDaemon, downloaded, failed, moving, removed, uploaded

LAUNCHER = Path(__file__).parents[2] / "peer" / "pclient.py"


def test_login_reads_the_password_from_stdin(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    done = pclient("login", "ana", "--json", typed="secret\n")
    assert (done.code, done.objects) == (0, [{"user": "ana", "registered": False}])
    assert done.err == ""
    assert daemon.requests("Login") == [pb.LoginRequest(user="ana", password="secret", register=True)]


def test_spaces_in_a_password_count(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    assert pclient("login", "ben", "--password-stdin", "--json", typed=" a b \r\n").objects[0]["registered"] is True
    assert daemon.requests("Login")[0].password == " a b "


def test_a_wrong_password_exits_77(pclient: Pclient) -> None:
    done = pclient("--json", "login", "ana", typed="wrong\n")
    assert (done.code, done.error["code"]) == (77, "login_refused")
    plain = pclient("login", "ana", typed="wrong\n")
    assert (plain.code, plain.out, plain.err) == (77, "", "error: wrong user or password\n")


@pytest.mark.parametrize("typed", ["", "\n", "\udcff\n"])
def test_no_password_is_bad_usage(pclient: Pclient, typed: str) -> None:
    assert pclient("login", "ana", "--json", typed=typed).error["code"] == "bad_usage"


def test_logout_is_harmless_twice(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.status.user = "ana"
    assert pclient("logout", "--json").objects == [{"user": "ana"}]
    assert pclient("logout", "--json").objects == [{"user": None}]
    assert pclient("logout").code == 0


def test_logout_shows_the_notice_of_the_pserver(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.status.user, daemon.logout_notice = "ana", "logged out here only"
    done = pclient("logout")
    assert (done.code, done.out, done.err) == (0, "Logged out ana\n", "logged out here only\n")
    daemon.status.user = "ana"
    assert daemon.logout_notice in pclient(typed="3\n0\n").out


def test_passwd_reads_two_lines(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.status.user = "ana"
    assert pclient("passwd", "--json", typed="old\nnew\n").objects == [{"user": "ana"}]
    assert daemon.requests("ChangePassword") == [pb.ChangePasswordRequest(old_password="old", new_password="new")]
    assert pclient("passwd", "--json", typed="old\n").error["code"] == "bad_usage"


def test_a_missing_password_explains_how_to_give_one(pclient: Pclient) -> None:
    assert pclient("login", "ben").err == "error: no password: give it as a line on stdin (--password-stdin)\n"
    assert [pclient("passwd", typed=typed).err for typed in ("", "old\n")] == [
        "error: missing password: give the old one, then the new one, a line each on stdin (--password-stdin)\n"
    ] * 2


def test_upload_sends_absolute_paths(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [[uploaded("a b.txt", "10.0.0.2:5001"), uploaded("-x", "10.0.0.3:5001")]]
    done = pclient("upload", "--copies", "2", "--json", "--", "a b.txt", "-x")
    assert done.code == 0
    assert daemon.requests("Upload") == [
        pb.UploadCommand(paths=[str(tmp_path / "a b.txt"), str(tmp_path / "-x")], copies=2)
    ]
    assert done.objects == [
        {"name": "a b.txt", "id": ID, "size": 3, "copies": ["10.0.0.2:5001"]},
        {"name": "-x", "id": ID, "size": 3, "copies": ["10.0.0.3:5001"]},
    ]


def test_upload_keeps_two_dots_after_a_link(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [f"{tmp_path}/link/../f", "/abs/link/../f"]
    daemon.transfers = [[failed("io", path) for path in paths], []]
    done = pclient("upload", "link/../f", "/abs/link/../f", "--json")
    assert [each["error"]["name"] for each in done.objects] == ["link/../f", "/abs/link/../f"]
    daemon.status.user = "ana"
    pclient(typed="1\nlink/../f\n0\n")
    assert [list(request.paths) for request in daemon.requests("Upload")] == [paths, paths[:1]]


def test_an_empty_folder_is_a_notice_and_no_failure(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[pb.TransferEvent(notice="empty: no regular file in it to share")]]
    done = pclient("upload", "empty")
    assert (done.code, done.out, done.err) == (0, "", "empty: no regular file in it to share\n")


def test_upload_without_online_peers_exits_69_and_names_the_argument(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [[failed("no_active_peer", str(tmp_path / "a.txt"), "no peer is online")]]
    done = pclient("upload", "a.txt", "--json")
    assert done.code == 69
    assert done.error == {"code": "no_active_peer", "message": "no peer is online", "name": "a.txt"}
    assert daemon.requests("Upload")[0].copies == 1


def test_a_notice_is_a_line_on_stderr(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    notice = pb.TransferEvent(notice="1 of 3 copies")
    daemon.transfers = [[notice, uploaded("a", "h:1")], [notice, uploaded("a", "h:1")]]
    done = pclient("upload", "a", "--json")
    assert (done.code, done.err, len(done.objects)) == (0, "1 of 3 copies\n", 1)
    assert pclient("upload", "a", "--quiet").err == ""


def test_download_json_has_numbers_and_the_path(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[moving("x", 1, 3), downloaded("x", "/shared/x", resumed_bytes=2)]]
    done = pclient("download", "x", "--json")
    assert (done.code, done.err) == (0, "")
    [found] = done.objects
    assert found == {
        "name": "x",
        "id": ID,
        "size": 3,
        "path": "/shared/x",
        "seconds": 0.5,
        "holders": ["10.0.0.1:5001"],
        "resumed_bytes": 2,
        "present": False,
    }
    assert isinstance(found["seconds"], float)


def test_download_prints_only_the_path_on_stdout(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[downloaded("x", "/shared/x")]]
    done = pclient("download", "x")
    assert done.out == "/shared/x\n"
    assert done.err == "x: 3 B in 0.5 s (6 B/s) from 10.0.0.1:5001\n"


def test_many_downloads_print_paths_and_a_summary(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    came = [
        downloaded(f"tree/{number}", f"/shared/tree/{number}", already_present=number < 12) for number in range(312)
    ]
    daemon.transfers = [[*came, failed("io", "tree/x")], came[:10], came, came[:12]]
    done = pclient("download", "tree/")
    assert done.out.splitlines() == [f"/shared/tree/{number}" for number in range(312)]
    *first, fault, last = done.err.splitlines()
    assert (len(first), fault) == (10, "error: tree/x: it is io")
    assert re.fullmatch(r"300 files, 900 B downloaded in \d\.\d s; 12 already present; 1 failed", last)
    assert len(pclient("download", "tree/").err.splitlines()) == 10
    assert pclient("download", "tree/", "--json").err == ""
    assert pclient("download", "tree/").err.splitlines()[-1] == "12 already present"


def test_many_uploads_print_a_summary(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[uploaded(f"tree/{number}") for number in range(11)]]
    assert re.fullmatch(r"11 files, 33 B shared in \d\.\d s\n", pclient("upload", "tree").err)


def test_a_rate_is_shown_only_for_a_measurable_time(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[downloaded("x")], [downloaded("x", seconds=0.04)]]
    assert "3 B in 0.5 s (6 B/s) from" in pclient("download", "x").err
    assert "3 B in 0.0 s from" in pclient("download", "x").err


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("other.txt", "other.txt"),
        ("sub/x", "{here}/sub/x"),
        ("./x", "{here}/./x"),
        ("link/../x", "{here}/link/../x"),
        ("out/", "{here}/out/"),
        (".", "{here}/."),
        ("..", "{here}/.."),
        ("out/.", "{here}/out/./"),
        ("out/..", "{here}/out/../"),
        ("/", "/"),
        ("/abs/x", "/abs/x"),
    ],
)
def test_output_is_sent_as_a_name_or_an_absolute_path(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, sent: str
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [[downloaded("x")]]
    assert pclient("download", "x", "--output", given).code == 0
    assert daemon.requests("Download") == [pb.DownloadCommand(names=["x"], output=sent.format(here=tmp_path))]


def test_an_output_name_of_an_existing_folder_gets_a_message(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)

    def explained(*words: str) -> bool:
        daemon.transfers = [[downloaded("x")]]
        done = pclient("download", "x", *words)
        assert done.code == 0
        return "out is used as a name in the shared folder; for the folder ./out write out/\n" in done.err

    assert explained("--output", "out")
    for words in (
        ("--output", "out", "--json"),
        ("--output", "out", "-q"),
        ("--output", "out/"),
        ("--output", "file"),
        ("--output", "."),
        (),
    ):
        assert not explained(*words), words


def test_all_arguments_are_tried_and_the_first_failure_is_the_exit_code(
    daemon: ScriptedDaemon, pclient: Pclient
) -> None:
    daemon.transfers = [[failed("target_exists", "c"), downloaded("b"), failed("no_such_file", "a")]]
    done = pclient("download", "a", "b", "c", "--json")
    assert done.code == 66
    assert [each.get("name") or each["error"]["name"] for each in done.objects] == ["c", "b", "a"]


def test_a_failure_inside_a_folder_counts_as_that_of_the_folder(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[failed("disk_full", "z"), failed("not_verified", "folder/x")]]
    assert pclient("download", "folder/", "z", "--json").code == 76


def test_an_ambiguous_name_exits_2_with_the_ids(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[failed("ambiguous_name", "x", ids=(ID, "cd" * 32))]] * 2
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["ids"]) == (2, [ID, "cd" * 32])
    assert ID in pclient("download", "x").err


def test_the_newest_version_is_what_the_pserver_is_asked_for(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    ambiguous = [failed("ambiguous_name", "x", ids=(ID, "cd" * 32), hint=pb.HINT_CHOOSE_VERSION)]
    daemon.transfers = [ambiguous, [downloaded("x")]]
    # The hint names the option, which then goes with the command.
    assert "--newest" in pclient("download", "x").err
    assert pclient("download", "--newest", "x").code == 0
    assert [command.newest for command in daemon.requests("Download")] == [False, True]


def test_arguments_that_are_not_utf8_are_refused_and_the_rest_is_tried(
    daemon: ScriptedDaemon, pclient: Pclient
) -> None:
    daemon.transfers = [[downloaded("b")]]
    done = pclient("download", "a\udcff", "b", "--json")
    assert done.code == 2
    assert done.objects[0]["error"]["code"] == "bad_name"
    assert daemon.requests("Download")[0].names == ["b"]
    twice = pclient("upload", *[os.fsdecode(b"\xff")] * 2, "--json")
    assert [(twice.code, each["error"]["code"], each["error"]["name"]) for each in twice.objects] == [
        (2, "bad_name", "\udcff")
    ] * 2


def test_an_empty_argument_is_refused_and_the_rest_is_tried(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[downloaded("b")], [uploaded("c")], [removed("d")]]
    for words in (("download", "b", ""), ("upload", "", "c"), ("remove", "--yes", "d", "")):
        done = pclient(*words, "--json")
        assert done.code == 2
        assert [each["error"]["code"] for each in done.objects if "error" in each] == ["bad_name"]
        assert len(done.objects) == 2
    (download,), (upload,), (remove,) = map(daemon.requests, ("Download", "Upload", "Remove"))
    assert (download.names, len(upload.paths), remove.names) == (["b"], 1, ["d"])
    assert pclient("upload", "", "--json").code == 2


@pytest.mark.parametrize("words", [("files",), ("login",), ("remove", "--yes"), ("remove",)])
def test_words_that_are_not_utf8_are_refused_before_any_call(
    daemon: ScriptedDaemon, pclient: Pclient, words: tuple[str, ...]
) -> None:
    done = pclient(*words, os.fsdecode(b"a\xff"), "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (2, "bad_name")
    assert {method for method, _ in daemon.calls} <= {"Prove"}
    plain = pclient(*words, os.fsdecode(b"a\xff"), typed="secret\n")
    assert plain.err == "error: a\\udcff: not UTF-8\n"


# In UTC, so that the day is the same in nearly every time zone.
NOON = 1_500_033_600.5


def test_files_lists_every_page(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.pages = [
        [pb.ListedFile(name="a", id=ID, size=1536, holders=2, partial=1, modified=NOON, executable=True)],
        [pb.ListedFile(name="b", id=ID, size=1, holders=1)],
    ]
    done = pclient("files", "*a*", "--json")
    numbers = {"size": 1536, "holders": 2, "partial": 1}
    assert done.objects[0] == {"name": "a", "id": ID, **numbers, "modified": NOON, "executable": True}
    assert len(done.objects) == 2 and done.objects[1]["modified"] is None
    assert daemon.requests("ListFiles")[0].match == "*a*"
    table = pclient("files").out.splitlines()
    assert table[0].split() == ["size", "modified", "holders", "partial", "id", "name"]
    assert table[1].split() == ["1.50", "KiB", "2017-07-14", "2", "1", ID[:12], "a"]
    assert table[2].split() == ["1", "B", "1", "0", ID[:12], "b"]


def test_an_empty_network_is_no_failure(pclient: Pclient) -> None:
    done = pclient("files")
    assert (done.code, done.out) == (0, "")
    assert pclient("peers", "--json").out == ""


def test_peers(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    load = pb.Load(uploads=1, downloads=2, free_bytes=3, rate=4.5)
    daemon.peers = [pb.ListedPeer(address="h:1", user="ana", files=5, last_seen=0.5, load=load)]
    assert pclient("peers", "--json").objects == [
        {
            "url": "h:1",
            "user": "ana",
            "files": 5,
            "last_seen": 0.5,
            "load": {"uploads": 1, "downloads": 2, "free_bytes": 3, "rate": 4.5},
        }
    ]
    assert "ana" in pclient("peers").out


def test_status_shows_user_transfers_and_unshared_files(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    logged_out = pclient("status", "--json").objects[0]
    assert (logged_out["user"], logged_out["logged_in"]) == (None, False)
    daemon.status.user = "ana"
    daemon.status.files = 2
    daemon.status.not_shared.add(name=".hidden", reason="begins with a dot")
    source = pb.Source(address="h:2", rate=2.5, bytes=10, state="dropped", reason="sent a wrong piece")
    progress = moving("big", 10, 100, sources=[source]).progress
    daemon.status.transfers.add(transfer=3, kind="download", progress=progress)
    found = pclient("status", "--json").objects[0]
    assert found["user"] == "ana"
    assert found["not_shared"] == [{"name": ".hidden", "why": "begins with a dot"}]
    assert found["transfers"] == [
        {
            "transfer": 3,
            "kind": "download",
            "phase": "moving",
            "name": "big",
            "done": 10,
            "total": 100,
            "files_done": 0,
            "files_total": 0,
            "rate": 1e6,
            "holders": [{"url": "h:2", "rate": 2.5, "bytes": 10, "state": "dropped", "why": "sent a wrong piece"}],
        }
    ]
    assert {"url", "tracker", "shared_dir", "state_dir", "files", "bytes", "quota", "quota_used"} <= found.keys()
    text = pclient("status").out
    assert ".hidden: begins with a dot" in text
    assert "h:2 dropped" in text


def test_remove_without_a_terminal_needs_yes(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    done = pclient("remove", "x", "--json")
    assert (done.code, done.error["code"]) == (2, "bad_usage")
    assert "--yes" in done.error["message"]
    assert daemon.requests("Remove") == []


def test_remove_with_yes(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[removed("x"), failed("no_such_file", "y")]]
    done = pclient("remove", "x", "y", "--yes", "--json")
    assert done.code == 66
    assert done.objects[0] == {"name": "x", "id": ID, "size": 3, "removed": True}
    assert done.error["name"] == "y"


@pytest.mark.parametrize("command", ["upload", "download", "remove"])
def test_arguments_larger_than_a_message_arrive_in_order(
    daemon: ScriptedDaemon, pclient: Pclient, command: str
) -> None:
    words = [f"/{number}" + 100_000 * "x" for number in range(50)]
    daemon.transfers = [[uploaded("x")]]
    assert pclient(command, *words, *(["--yes"] if command == "remove" else [])).code == 0
    [sent] = daemon.requests(command.capitalize())
    assert (sent.paths if command == "upload" else sent.names) == words


def test_thirty_thousand_failures_are_shown_in_seconds(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    words = [f"{number}.txt" for number in range(30_000)]
    faults = [failed("no_such_file", word, arguments=[index]) for index, word in enumerate(words)]
    daemon.transfers = [[*reversed(faults[1:]), failed("disk_full", words[0], arguments=[0])]]
    began = time.monotonic()
    done = pclient("download", *words)
    assert (done.code, len(done.err.splitlines())) == (74, 30_000)
    # A search through all arguments for each fault takes minutes.
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(("code", "exit_code"), sorted(EXIT_CODES.items()))
def test_each_code_of_a_transfer_has_its_exit_code(
    daemon: ScriptedDaemon, pclient: Pclient, code: str, exit_code: int
) -> None:
    daemon.transfers = [[failed(code, "x")]]
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["code"]) == (exit_code, code)


@pytest.mark.parametrize(("code", "exit_code"), sorted(EXIT_CODES.items()))
def test_each_code_of_a_refused_call_has_its_exit_code(
    daemon: ScriptedDaemon, pclient: Pclient, code: str, exit_code: int
) -> None:
    daemon.refusals["ListPeers"] = (grpc.StatusCode.FAILED_PRECONDITION, code, f"it is {code}")
    done = pclient("peers", "--json")
    assert (done.code, done.error["code"], done.error["message"]) == (exit_code, code, f"it is {code}")


def test_an_unknown_failure_shows_no_internals(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.refusals["ListPeers"] = (grpc.StatusCode.UNKNOWN, "", "Unexpected <class KeyError>: 'x'")
    done = pclient("peers")
    assert (done.code, done.out) == (1, "")
    assert "KeyError" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_pserver_that_dies_in_a_transfer_is_an_interruption(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.refusals["Download"] = (grpc.StatusCode.UNAVAILABLE, "", "Socket closed")
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["code"]) == (75, "interrupted")
    assert "resume" in done.error["message"]


def test_a_pserver_that_dies_in_a_removal_is_an_interruption(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.refusals["Remove"] = (grpc.StatusCode.UNAVAILABLE, "", "Socket closed")
    done = pclient("remove", "x", "--yes", "--json")
    assert (done.code, done.error["code"]) == (75, "interrupted")
    assert "some copies may be removed" in done.error["message"]


def test_the_exit_code_is_that_of_the_first_argument_that_failed(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    later, earlier = failed("no_such_file", "z", arguments=[2]), failed("disk_full", "Dup", arguments=[1, 3])
    unknown = failed("io", "elsewhere")
    daemon.transfers = [[later, earlier, unknown], [unknown, later], [unknown], []]
    words = ("download", "ok", "du*", "z", "d?p")
    assert [pclient(*words).code for _ in range(4)] == [74, 66, 74, 0]


def test_an_argument_that_is_not_sent_counts_in_its_place(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[failed("disk_full", "a", arguments=[0])], [failed("disk_full", "a", arguments=[0])]]
    assert pclient("download", "a", "").code == 74
    assert pclient("download", "", "a").code == 2


def test_json_has_an_object_for_each_argument_that_names_the_file(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [
        [downloaded("a", arguments=[0, 2, 4]), failed("io", "b", arguments=[1, 3]), downloaded("c", arguments=[2])],
        [uploaded("a"), failed("io", str(tmp_path / "b"), arguments=[1, 2])],
    ]
    done = pclient("download", "a", "b", "*", "b", "a", "--json")
    assert [each.get("name") or each["error"]["name"] for each in done.objects] == ["a", "a", "b", "b", "c"]
    done = pclient("upload", "a", "b", "./b", "--json")
    assert [each.get("name") or each["error"]["name"] for each in done.objects] == ["a", "b", "./b"]


@pytest.mark.parametrize("word", ["a", "./a", "{here}/a", "other/../a"])
def test_upload_sends_one_path_for_a_file(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [[]]
    pclient("upload", word.format(here=tmp_path))
    assert daemon.requests("Upload")[0].paths == [f"{tmp_path}/a"]


def test_a_relative_path_from_a_removed_folder_is_refused(
    pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert pclient("upload", "a").err == "error: a: the current folder was removed; give an absolute path\n"


def test_a_hint_is_worded_for_commands(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [
        [failed("target_exists", "x", "x exists with different content", hint=pb.HINT_OTHER_NAME)],
        [failed("no_active_peer", "x", "x is shared, but no peer is online", hint=pb.HINT_REPEAT_LATER)],
    ]
    assert pclient("download", "x").err == (
        "error: x exists with different content; rename or remove it, or use --output OTHER_NAME\n"
    )
    done = pclient("upload", "x")
    assert done.code == 69
    assert done.err == (
        "warning: x is shared, but no peer is online; run the same command again when more peers are online\n"
    )


def test_the_hint_to_log_in_is_the_command_for_this_peer(
    daemon: ScriptedDaemon, pclient: Pclient, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    daemon.refusals["ListPeers"] = (grpc.StatusCode.FAILED_PRECONDITION, "not_logged_in", "not logged in")
    daemon.hint = Hint.LOG_IN
    text, _, command = pclient("peers").err.partition("; run: ")
    assert text == "error: not logged in"
    assert shlex.split(command) == [".venv/bin/python", str(LAUNCHER), env, "login", "USER"]


@pytest.mark.parametrize("output", ["{here}/", "./", "."])
def test_an_occupied_copy_outside_counts_as_its_file(
    daemon: ScriptedDaemon, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.transfers = [[failed("no_such_file", "z"), failed("target_exists", f"{tmp_path}/sub/x", arguments=[0])]]
    done = pclient("download", "sub/x", "z", "--output", output.format(here=tmp_path), "--json")
    assert done.code == 73
    assert [each["error"]["name"] for each in done.objects] == ["z", "sub/x"]


def test_an_error_line_contains_its_name(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    faults = [
        ("a:b", "the name contains ':'"),
        ("x", "/tmp/x: no such file"),
        ("e\x1bx", "/tmp/e\\x1bx: no such file"),
        ("y", "y is shared already"),
    ]
    daemon.transfers = [[failed("io", name, message) for name, message in faults]]
    assert pclient("download", "a:b", "x", "y").err.splitlines() == [
        "error: a:b: the name contains ':'",
        "error: /tmp/x: no such file",
        r"error: /tmp/e\x1bx: no such file",
        "error: y is shared already",
    ]
