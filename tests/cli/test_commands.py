"""Commands: what they ask of the pserver, what they print, and what they exit with."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from cli.errors import EXIT_CODES, CliError
from cli.exit_status import exit_code
from pclient_runs import Pclient
from scripted_daemon import ID, ScriptedNode, downloaded, failed, moving, removed, uploaded


def test_login_takes_the_password_from_a_line_of_stdin(node: ScriptedNode, pclient: Pclient) -> None:
    done = pclient("login", "ana", "--json", typed="secret\n")
    assert (done.code, done.objects) == (0, [{"user": "ana", "registered": False}])
    assert done.err == ""
    assert node.asked("Login") == [pb.LoginRequest(user="ana", password="secret")]


def test_spaces_in_a_password_count(node: ScriptedNode, pclient: Pclient) -> None:
    assert pclient("login", "ben", "--password-stdin", "--json", typed=" a b \r\n").objects[0]["registered"] is True
    assert node.asked("Login")[0].password == " a b "


def test_a_wrong_password_exits_77(pclient: Pclient) -> None:
    done = pclient("--json", "login", "ana", typed="wrong\n")
    assert (done.code, done.error["code"]) == (77, "login_refused")
    plain = pclient("login", "ana", typed="wrong\n")
    assert (plain.code, plain.out, plain.err) == (77, "", "error: wrong user or password\n")


@pytest.mark.parametrize("typed", ["", "\n", "\udcff\n"])
def test_no_password_is_bad_usage(pclient: Pclient, typed: str) -> None:
    assert pclient("login", "ana", "--json", typed=typed).error["code"] == "bad_usage"


def test_logout_is_harmless_twice(node: ScriptedNode, pclient: Pclient) -> None:
    node.status.user = "ana"
    assert pclient("logout", "--json").objects == [{"user": "ana"}]
    assert pclient("logout", "--json").objects == [{"user": None}]
    assert pclient("logout").code == 0


def test_a_logout_tells_what_it_could_not_do(node: ScriptedNode, pclient: Pclient) -> None:
    node.status.user, node.logout_notice = "ana", "the tracker could not be told"
    done = pclient("logout")
    assert (done.code, done.out, done.err) == (0, "Logged out ana\n", "the tracker could not be told\n")
    node.status.user = "ana"
    assert node.logout_notice in pclient(typed="3\n0\n").out


def test_passwd_takes_two_lines(node: ScriptedNode, pclient: Pclient) -> None:
    node.status.user = "ana"
    assert pclient("passwd", "--json", typed="old\nnew\n").objects == [{"user": "ana"}]
    assert node.asked("ChangePassword") == [pb.ChangePasswordRequest(old_password="old", new_password="new")]
    assert pclient("passwd", "--json", typed="old\n").error["code"] == "bad_usage"


def test_how_a_password_is_given_is_told_where_none_is(pclient: Pclient) -> None:
    assert pclient("login", "ben").err == "error: no password: give it as a line on stdin (--password-stdin)\n"
    assert [pclient("passwd", typed=typed).err for typed in ("", "old\n")] == [
        "error: two passwords are wanted: first the old one, then the new, a line each on stdin (--password-stdin)\n"
    ] * 2


def test_upload_sends_absolute_paths_of_its_own_folder(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    node.transfers = [[uploaded("a b.txt", "10.0.0.2:5001"), uploaded("-x", "10.0.0.3:5001")]]
    done = pclient("upload", "--copies", "2", "--json", "--", "a b.txt", "-x")
    assert done.code == 0
    assert node.asked("Upload") == [pb.UploadCommand(paths=[str(tmp_path / "a b.txt"), str(tmp_path / "-x")], copies=2)]
    assert done.objects == [
        {"name": "a b.txt", "id": ID, "size": 3, "copies": ["10.0.0.2:5001"]},
        {"name": "-x", "id": ID, "size": 3, "copies": ["10.0.0.3:5001"]},
    ]


def test_where_two_dots_of_an_upload_lead_is_left_to_the_system(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [f"{tmp_path}/link/../f", "/abs/link/../f"]
    node.transfers = [[failed("io", path) for path in paths], []]
    done = pclient("upload", "link/../f", "/abs/link/../f", "--json")
    assert [each["error"]["name"] for each in done.objects] == ["link/../f", "/abs/link/../f"]
    node.status.user = "ana"
    pclient(typed="1\nlink/../f\n0\n")
    assert [list(request.paths) for request in node.asked("Upload")] == [paths, paths[:1]]


def test_an_empty_folder_is_told_as_that_and_is_no_failure(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[pb.TransferEvent(notice="empty: no regular file in it to share")]]
    done = pclient("upload", "empty")
    assert (done.code, done.out, done.err) == (0, "", "empty: no regular file in it to share\n")


def test_upload_without_takers_exits_69_and_names_the_argument(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    node.transfers = [[failed("no_active_peer", str(tmp_path / "a.txt"), "no live peer can take it")]]
    done = pclient("upload", "a.txt", "--json")
    assert done.code == 69
    assert done.error == {"code": "no_active_peer", "message": "no live peer can take it", "name": "a.txt"}
    assert node.asked("Upload")[0].copies == 1


def test_a_notice_is_a_line_on_stderr(node: ScriptedNode, pclient: Pclient) -> None:
    notice = pb.TransferEvent(notice="1 of 3 copies")
    node.transfers = [[notice, uploaded("a", "h:1")], [notice, uploaded("a", "h:1")]]
    done = pclient("upload", "a", "--json")
    assert (done.code, done.err, len(done.objects)) == (0, "1 of 3 copies\n", 1)
    assert pclient("upload", "a", "--quiet").err == ""


def test_download_gives_numbers_as_numbers_and_the_path(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[moving("x", 1, 3), downloaded("x", "/shared/x", resumed_bytes=2)]]
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


def test_download_for_people_prints_just_the_path_on_stdout(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[downloaded("x", "/shared/x")]]
    done = pclient("download", "x")
    assert done.out == "/shared/x\n"
    assert "verified" in done.err


def test_of_many_files_the_others_are_a_path_and_all_of_them_a_line(node: ScriptedNode, pclient: Pclient) -> None:
    came = [
        downloaded(f"tree/{number}", f"/shared/tree/{number}", already_present=number < 12) for number in range(312)
    ]
    node.transfers = [[*came, failed("io", "tree/x")], came[:10], came, came[:12]]
    done = pclient("download", "tree/")
    assert done.out.splitlines() == [f"/shared/tree/{number}" for number in range(312)]
    *first, fault, last = done.err.splitlines()
    assert (len(first), fault) == (10, "error: tree/x: it is io")
    assert re.fullmatch(r"300 files, 900 B verified in \d\.\d s; 12 lay here already; 1 failed", last)
    assert len(pclient("download", "tree/").err.splitlines()) == 10
    assert pclient("download", "tree/", "--json").err == ""
    assert pclient("download", "tree/").err.splitlines()[-1] == "12 lay here already"


def test_of_many_uploads_the_sum_is_told_too(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[uploaded(f"tree/{number}") for number in range(11)]]
    assert re.fullmatch(r"11 files, 33 B shared in \d\.\d s\n", pclient("upload", "tree").err)


def test_a_rate_is_told_where_the_time_can_be_measured(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[downloaded("x")], [downloaded("x", seconds=0.04)]]
    assert "verified in 0.5 s, 6 B/s, from" in pclient("download", "x").err
    assert "verified in 0.0 s, from" in pclient("download", "x").err


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
def test_output_is_a_word_or_an_absolute_path(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, sent: str
) -> None:
    monkeypatch.chdir(tmp_path)
    node.transfers = [[downloaded("x")]]
    assert pclient("download", "x", "--output", given).code == 0
    assert node.asked("Download") == [pb.DownloadCommand(names=["x"], output=sent.format(here=tmp_path))]


def test_a_folder_of_the_name_that_output_gives_is_told_how_to_be_meant(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)

    def told(*words: str) -> bool:
        node.transfers = [[downloaded("x")]]
        done = pclient("download", "x", *words)
        assert done.code == 0
        return "out is a name in the shared folder; for the folder here write out/\n" in done.err

    assert told("--output", "out")
    for words in (
        ("--output", "out", "--json"),
        ("--output", "out", "-q"),
        ("--output", "out/"),
        ("--output", "file"),
        ("--output", "."),
        (),
    ):
        assert not told(*words), words


def test_all_arguments_are_tried_and_the_first_ones_failure_is_the_exit_code(
    node: ScriptedNode, pclient: Pclient
) -> None:
    node.transfers = [[failed("target_exists", "c"), downloaded("b"), failed("no_such_file", "a")]]
    done = pclient("download", "a", "b", "c", "--json")
    assert done.code == 66
    assert [each.get("name") or each["error"]["name"] for each in done.objects] == ["c", "b", "a"]


def test_a_failure_below_a_folder_counts_as_the_folders(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[failed("disk_full", "z"), failed("not_verified", "folder/x")]]
    assert pclient("download", "folder/", "z", "--json").code == 76


def test_an_ambiguous_name_exits_2_with_the_ids(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[failed("ambiguous_name", "x", ids=(ID, "cd" * 32))]] * 2
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["ids"]) == (2, [ID, "cd" * 32])
    assert ID in pclient("download", "x").err


def test_words_that_are_not_utf8_are_refused_and_the_others_tried(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[downloaded("b")]]
    done = pclient("download", "a\udcff", "b", "--json")
    assert done.code == 2
    assert done.objects[0]["error"]["code"] == "bad_name"
    assert node.asked("Download")[0].names == ["b"]
    twice = pclient("upload", *[os.fsdecode(b"\xff")] * 2, "--json")
    assert [(twice.code, each["error"]["code"], each["error"]["name"]) for each in twice.objects] == [
        (2, "bad_name", "\udcff")
    ] * 2


def test_an_empty_word_is_refused_for_itself_and_the_others_tried(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[downloaded("b")], [uploaded("c")], [removed("d")]]
    for words in (("download", "b", ""), ("upload", "", "c"), ("remove", "--yes", "d", "")):
        done = pclient(*words, "--json")
        assert done.code == 2
        assert [each["error"]["code"] for each in done.objects if "error" in each] == ["bad_name"]
        assert len(done.objects) == 2
    (download,), (upload,), (remove,) = map(node.asked, ("Download", "Upload", "Remove"))
    assert (download.names, len(upload.paths), remove.names) == (["b"], 1, ["d"])
    assert pclient("upload", "", "--json").code == 2


@pytest.mark.parametrize("words", [("files",), ("login",), ("remove", "--yes"), ("remove",)])
def test_a_pattern_a_user_and_a_name_that_are_not_utf8_are_refused_unasked(
    node: ScriptedNode, pclient: Pclient, words: tuple[str, ...]
) -> None:
    done = pclient(*words, os.fsdecode(b"a\xff"), "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (2, "bad_name")
    assert {method for method, _ in node.calls} <= {"Prove"}
    told = pclient(*words, os.fsdecode(b"a\xff"), typed="secret\n")
    assert told.err == "error: a\\udcff is not UTF-8, as a name has to be\n"


def test_files_lists_every_page(node: ScriptedNode, pclient: Pclient) -> None:
    node.pages = [
        [pb.ListedFile(name="a", id=ID, size=1536, holders=2, partial=1)],
        [pb.ListedFile(name="b", id=ID, size=1, holders=1)],
    ]
    done = pclient("files", "*a*", "--json")
    assert done.objects[0] == {"name": "a", "id": ID, "size": 1536, "holders": 2, "partial": 1}
    assert len(done.objects) == 2
    assert node.asked("ListFiles")[0].match == "*a*"
    table = pclient("files").out.splitlines()
    assert table[0].split() == ["size", "holders", "partial", "id", "name"]
    assert table[1].split() == ["1.50", "KiB", "2", "1", ID[:12], "a"]


def test_an_empty_network_is_no_failure(pclient: Pclient) -> None:
    done = pclient("files")
    assert (done.code, done.out) == (0, "")
    assert pclient("peers", "--json").out == ""


def test_peers(node: ScriptedNode, pclient: Pclient) -> None:
    load = pb.Load(uploads=1, downloads=2, free_bytes=3, rate=4.5)
    node.peers = [pb.ListedPeer(address="h:1", user="ana", files=5, last_seen=0.5, load=load)]
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


def test_status_says_who_and_what_and_why_not(node: ScriptedNode, pclient: Pclient) -> None:
    logged_out = pclient("status", "--json").objects[0]
    assert (logged_out["user"], logged_out["logged_in"]) == (None, False)
    node.status.user = "ana"
    node.status.files = 2
    node.status.not_shared.add(name=".hidden", reason="begins with a dot")
    source = pb.Source(address="h:2", rate=2.5, bytes=10, state="dropped", reason="sent a wrong piece")
    progress = moving("big", 10, 100, sources=[source]).progress
    node.status.transfers.add(transfer=3, kind="download", progress=progress)
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


def test_remove_wants_yes_where_nobody_can_be_asked(node: ScriptedNode, pclient: Pclient) -> None:
    done = pclient("remove", "x", "--json")
    assert (done.code, done.error["code"]) == (2, "bad_usage")
    assert "--yes" in done.error["message"]
    assert node.asked("Remove") == []


def test_remove_with_yes(node: ScriptedNode, pclient: Pclient) -> None:
    node.transfers = [[removed("x"), failed("no_such_file", "y")]]
    done = pclient("remove", "x", "y", "--yes", "--json")
    assert done.code == 66
    assert done.objects[0] == {"name": "x", "id": ID, "size": 3, "removed": True}
    assert done.error["name"] == "y"


@pytest.mark.parametrize("command", ["upload", "download", "remove"])
def test_more_words_than_a_message_takes_all_arrive_in_their_order(
    node: ScriptedNode, pclient: Pclient, command: str
) -> None:
    words = [f"/{number}" + 100_000 * "x" for number in range(50)]
    node.transfers = [[uploaded("x")]]
    assert pclient(command, *words, *(["--yes"] if command == "remove" else [])).code == 0
    [order] = node.asked(command.capitalize())
    assert (order.paths if command == "upload" else order.names) == words


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("{}.txt", "{}.txt"),
        ("photos/{}.jpg", "{}.jpg"),
        ("/shared/{}/index.html", "{}/index.html"),
        ("../shared/{}/", "{}/a/b/index.html"),
        ("{}.txt", ""),
        ("{}/", "elsewhere{}"),
    ],
)
def test_of_tens_of_thousands_of_arguments_each_may_fail(word: str, name: str) -> None:
    words = [word.format(number) for number in range(30_000)]
    faults = [CliError("no_such_file", "", name=name.format(number)) for number in reversed(range(1, 30_000))]
    began = time.monotonic()
    assert exit_code(words, [*faults, CliError("disk_full", "", name=words[0])]) == EXIT_CODES["disk_full"]
    # Gone through for each other they take minutes.
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("code", "exit_code"), sorted(EXIT_CODES.items()))
def test_each_code_of_a_transfer_has_its_exit_code(
    node: ScriptedNode, pclient: Pclient, code: str, exit_code: int
) -> None:
    node.transfers = [[failed(code, "x")]]
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["code"]) == (exit_code, code)


@pytest.mark.parametrize(("code", "exit_code"), sorted(EXIT_CODES.items()))
def test_each_code_of_a_refused_call_has_its_exit_code(
    node: ScriptedNode, pclient: Pclient, code: str, exit_code: int
) -> None:
    node.refusals["ListPeers"] = (grpc.StatusCode.FAILED_PRECONDITION, code, f"it is {code}")
    done = pclient("peers", "--json")
    assert (done.code, done.error["code"], done.error["message"]) == (exit_code, code, f"it is {code}")


def test_an_unknown_failure_shows_nothing_of_its_inside(node: ScriptedNode, pclient: Pclient) -> None:
    node.refusals["ListPeers"] = (grpc.StatusCode.UNKNOWN, "", "Unexpected <class KeyError>: 'x'")
    done = pclient("peers")
    assert (done.code, done.out) == (1, "")
    assert "KeyError" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_pserver_that_dies_in_a_transfer_is_an_interruption(node: ScriptedNode, pclient: Pclient) -> None:
    node.refusals["Download"] = (grpc.StatusCode.UNAVAILABLE, "", "Socket closed")
    done = pclient("download", "x", "--json")
    assert (done.code, done.error["code"]) == (75, "interrupted")
    assert "resume" in done.error["message"]


def test_a_pserver_that_dies_in_a_removal_leaves_the_rest(node: ScriptedNode, pclient: Pclient) -> None:
    node.refusals["Remove"] = (grpc.StatusCode.UNAVAILABLE, "", "Socket closed")
    done = pclient("remove", "x", "--yes", "--json")
    assert (done.code, done.error["code"]) == (75, "interrupted")
    assert "for the rest" in done.error["message"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["du*", "z"], "Dup"),
        (["d?p", "z"], "dup"),
        (["other/", "folder/", "z"], "folder/sub/x"),
        ([ID, "z"], "known by another name"),
        (["o/x", "z"], "x"),
        (["../shared/a/b/", "z"], "a/b/c/x"),
        (["a/x", "z", "x"], "a/x"),
        (["/shared/b/x", "z", "/shared/a/x"], "b/x"),
        (["/shared/a/x", "z", "x"], "a/x/y"),
        (["no*", "z", "o/x"], "NO/x"),
        (["*", "z"], ""),
        (["/", "z", ID], ""),
    ],
)
def test_a_failure_counts_as_that_of_the_argument_that_meant_the_file(words: list[str], name: str) -> None:
    faults = [CliError("no_such_file", "", name="z"), CliError("disk_full", "", name=name)]
    assert exit_code(words, faults) == 74
    assert exit_code(["z", *words], faults) == 66


def test_a_failure_that_no_argument_brought_about_counts_last_and_ctrl_c_before_all() -> None:
    unknown, known = CliError("no_such_file", "", name="z"), CliError("disk_full", "", name="a")
    assert exit_code(["a"], [unknown, known]) == exit_code(["a"], [known, unknown]) == 74
    assert exit_code(["a"], [unknown]) == 66
    assert exit_code(["a"], []) == 0
    assert exit_code(["a"], [known], interrupted=True) == exit_code(["a"], [], interrupted=True) == 130


@pytest.mark.parametrize("output", ["{here}/", "./", "."])
def test_what_lies_in_the_way_of_a_copy_outside_counts_as_the_file(
    node: ScriptedNode, pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    node.transfers = [[failed("no_such_file", "z"), failed("target_exists", f"{tmp_path}/sub/x")]]
    done = pclient("download", "sub/x", "z", "--output", output.format(here=tmp_path), "--json")
    assert done.code == 73
    assert [each["error"]["name"] for each in done.objects] == ["z", "sub/x"]


def test_an_error_line_says_which_argument_it_is_about(node: ScriptedNode, pclient: Pclient) -> None:
    told = [("a:b", "the name contains ':'"), ("x", "there is no file /tmp/x"), ("y", "y is shared already")]
    node.transfers = [[failed("io", name, message) for name, message in told]]
    assert pclient("download", "a:b", "x", "y").err.splitlines() == [
        "error: a:b: the name contains ':'",
        "error: there is no file /tmp/x",
        "error: y is shared already",
    ]
