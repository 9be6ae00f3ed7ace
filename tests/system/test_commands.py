"""Results, output and exit codes of each command, with real programs."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from eventually import eventually
from programs import PCLIENT
from system.cluster import Cluster, Peer
from system.payload import digest, make_file

MIB = 1 << 20
# Largest gRPC message of a pserver, in bytes.
MESSAGE_MAX = (2 << 20) + (64 << 10)


@pytest.fixture
def ana(cluster: Cluster) -> Peer:
    return cluster.peer("ana")


@pytest.fixture
def ben(cluster: Cluster, ana: Peer) -> Peer:
    del ana
    return cluster.peer("ben")


def share(peer: Peer, name: str, size: int, rng: random.Random) -> Path:
    """Write a file into a peer's shared folder and announce it."""
    path = make_file(peer.shared / name, size, rng)
    assert peer.pclient("upload", str(path), "--copies", "0").code == 0
    return path


def test_status_shows_user_addresses_and_unshared_files(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    share(ana, "good.txt", 100, rng)
    (ana.shared / "bad:name.txt").write_text("x")
    eventually(lambda: [item.name for item in ana.status().not_shared] == ["bad:name.txt"])

    status = ana.pclient("status").one

    assert status["user"] == "ana"
    assert status["logged_in"] is True
    assert status["url"] == ana.address
    assert status["tracker"] == f"127.0.0.1:{cluster.tracker.program.port}"
    assert status["shared_dir"] == str(ana.shared)
    assert status["files"] == 1
    assert status["transfers"] == []
    assert "bad:name.txt" in json.dumps(status)
    ana.pclient("logout")
    status = ana.pclient("status").one
    assert (status["user"], status["logged_in"]) == (None, False)


def test_peers_shows_load_and_last_ping(ana: Peer, ben: Peer, rng: random.Random) -> None:
    share(ana, "good.txt", 100, rng)
    peers = {peer["user"]: peer for peer in ben.pclient("peers").objects}
    assert set(peers) == {"ana", "ben"}
    assert peers["ana"]["url"] == ana.address
    assert peers["ana"]["files"] == 1
    assert 0 <= peers["ana"]["last_seen"] < 5
    assert {"uploads", "downloads", "free_bytes", "rate"} <= peers["ana"]["load"].keys()


def test_files_matches_part_of_a_name_or_a_pattern(ana: Peer, ben: Peer, rng: random.Random) -> None:
    for name in ("Report.pdf", "reports/one.txt", "film.mkv"):
        share(ana, name, 100, rng)

    def names(*words: str) -> list[str]:
        return sorted(each["name"] for each in ben.pclient("files", *words).objects)

    assert names() == ["Report.pdf", "film.mkv", "reports/one.txt"]
    assert names("report") == ["Report.pdf", "reports/one.txt"]
    assert names("*.m?v") == ["film.mkv"]
    assert names("nothing") == []
    [film] = ben.pclient("files", "film").objects
    assert (film["size"], film["holders"], film["partial"]) == (100, 1, 0)
    assert len(film["id"]) == 64


def test_a_folder_and_a_pattern_can_be_downloaded(ana: Peer, ben: Peer, rng: random.Random) -> None:
    for name in ("trip/day one/a.jpg", "trip/b.jpg", "trip/b.txt", "other.jpg"):
        share(ana, name, 100, rng)
    assert {each["name"] for each in ben.pclient("download", "trip/").objects} == {
        "trip/day one/a.jpg",
        "trip/b.jpg",
        "trip/b.txt",
    }
    assert not (ben.shared / "other.jpg").exists()
    assert ben.pclient("download", "*.jpg").code == 0
    assert (ben.shared / "other.jpg").exists()


def test_output_renames_or_copies_and_never_overwrites(ana: Peer, ben: Peer, rng: random.Random) -> None:
    source = share(ana, "trip/film.bin", 2 * MIB, rng)
    outside = ben.home / "outside"
    outside.mkdir()

    copied = ben.pclient("download", "trip/film.bin", "--output", "outside/copy.bin").one
    assert copied["path"] == str(outside / "copy.bin")
    assert digest(outside / "copy.bin") == digest(ben.shared / "trip/film.bin") == digest(source)

    into = ben.pclient("download", "trip/film.bin", "--output", "outside/").one
    assert into["path"] == str(outside / "trip/film.bin")
    again = ben.pclient("download", "trip/film.bin", "--output", str(outside / "copy.bin"))
    assert (again.code, again.error) == (73, "target_exists")
    (outside / "mine.bin").write_text("mine")
    refused = ben.pclient("download", "trip/film.bin", "--output", "outside/mine.bin")
    assert (refused.code, refused.error) == (73, "target_exists")
    assert (outside / "mine.bin").read_text() == "mine"
    too_long = ben.pclient("download", "trip/film.bin", "--output", f"./{'x' * 300}")
    assert (too_long.code, too_long.error) == (74, "io")
    renamed = ben.pclient("download", "trip/film.bin", "--output", "renamed.bin").one
    assert renamed["path"] == str(ben.shared / "renamed.bin")


def test_a_repeated_upload_copies_nothing(ana: Peer, ben: Peer, rng: random.Random) -> None:
    make_file(ana.home / "film.bin", MIB, rng)
    first = ana.pclient("upload", "film.bin").one
    inode = (ana.shared / "film.bin").stat().st_ino
    second = ana.pclient("upload", "film.bin").one
    assert first == second
    assert first["copies"] == [ben.address]
    assert (ana.shared / "film.bin").stat().st_ino == inode


def test_dots_and_links_in_upload_paths_resolve_as_the_system_does(ana: Peer) -> None:
    for folder in ("trip/day", "elsewhere/inner"):
        (ana.home / folder).mkdir(parents=True)
    (ana.home / "f.txt").write_text("not this one")
    (ana.home / "elsewhere" / "f.txt").write_text("this one")
    (ana.home / "link").symlink_to("elsewhere/inner")
    (ana.home / "trip" / "day" / "a.txt").write_text("a")

    def upload(*paths: str, here: str = ".") -> list[str]:
        command = ana.command("--json", "upload", *paths, "--copies", "0")
        done = subprocess.run(command, cwd=ana.home / here, capture_output=True, text=True, check=True)
        return sorted(json.loads(line)["name"] for line in done.stdout.splitlines())

    assert upload("link/../f.txt", "elsewhere/f.txt") == ["f.txt"] * 2
    assert (ana.shared / "f.txt").read_text() == "this one"
    assert upload("trip/.") == ["trip/day/a.txt"]
    assert upload("trip/day/..") == ["trip/day/a.txt"]
    assert upload("trip/day/../../trip/day/.", "trip/day") == ["day/a.txt"]
    assert upload(".", here="trip/day") == ["day/a.txt"]
    assert upload("..", here="trip/day") == ["trip/day/a.txt"]


def test_dots_and_links_in_output_resolve_as_the_system_does(ana: Peer, ben: Peer, rng: random.Random) -> None:
    source = share(ana, "film.bin", 100, rng)
    (ben.home / "elsewhere" / "inner").mkdir(parents=True)
    (ben.home / "link").symlink_to("elsewhere/inner")
    for output, where in (("link/../copy.bin", "copy.bin"), ("link/..", "film.bin"), ("link/../new/", "new/film.bin")):
        assert ben.pclient("download", "film.bin", "--output", output).code == 0
        assert digest(ben.home / "elsewhere" / where) == digest(source)


def test_each_argument_has_its_own_object_even_for_one_file(ana: Peer, ben: Peer) -> None:
    (ana.home / "day").mkdir()
    (ana.home / "link").symlink_to("day")
    for path in ("one.txt", "two.txt", "bad:name", "day/one.txt"):
        (ana.home / path).write_text(path)

    def names_or_codes(peer: Peer, *words: str) -> list[str]:
        """Return the name or the error code of each object."""
        return [each["error"]["code"] if "error" in each else each["name"] for each in peer.pclient(*words).objects]

    words = ("one.txt", "./one.txt", "one.txt", "two.txt", "link/../one.txt")
    assert names_or_codes(ana, "upload", *words) == [*["one.txt"] * 4, "two.txt"]
    # Faults are also reported once for each argument.
    assert names_or_codes(ana, "upload", "bad:name", "link/../bad:name", "no", "./no") == [
        *["bad_name"] * 2,
        *["no_such_file"] * 2,
    ]
    assert names_or_codes(ana, "upload", "one.txt", "day/one.txt") == ["bad_usage", "one.txt"]
    id_ = ana.pclient("files", "two.txt").one["id"]
    assert sorted(names_or_codes(ben, "download", "one.txt", "no", "one.txt", "*.txt", "no", id_)) == [
        *["no_such_file"] * 2,
        *["one.txt"] * 2,
        "two.txt",
    ]
    assert names_or_codes(ben, "download", "one.txt", "one.txt", "--output", "other.txt") == ["other.txt"] * 2
    assert names_or_codes(ben, "remove", "one.txt", "no", "one.txt", "no", "--yes") == [
        *["one.txt"] * 2,
        *["no_such_file"] * 2,
    ]


def test_names_that_differ_only_in_case_are_one_name(ana: Peer, ben: Peer) -> None:
    for peer, name in ((ana, "Notes.txt"), (ben, "notes.txt")):
        (peer.home / name).write_text("the same")
        assert peer.pclient("upload", name, "--copies", "0").one["name"] == name
    assert ben.pclient("download", "Notes.txt").one["path"] == str(ben.shared / "notes.txt")
    (ana.home / "notes.txt").write_text("the same")
    assert ana.pclient("upload", "notes.txt", "--copies", "0").one["name"] == "Notes.txt"
    (ana.home / "NOTES.txt").write_text("different")
    assert ana.pclient("upload", "NOTES.txt", "--copies", "0").error == "target_exists"
    assert [path.name for path in ana.shared.glob("[!.]*")] == ["Notes.txt"]


def test_more_copies_than_peers_is_a_warning(ana: Peer, ben: Peer) -> None:
    (ana.home / "wanted.txt").write_text("wanted")
    sent = ana.pclient("upload", "wanted.txt", "--copies", "100")
    assert sent.one["copies"] == [ben.address]
    assert "1 of 100 copies" in sent.stderr


def test_an_unreadable_subfolder_is_reported_and_the_rest_is_shared(ana: Peer) -> None:
    album = ana.home / "album"
    album.mkdir()
    (album / "open.txt").write_text("open")
    # Nested folders whose path is too long to open, even for root.
    folder = os.open(album, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("x" * 200, dir_fd=folder)
        deeper = os.open("x" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    sent = ana.pclient("upload", "album", "--copies", "0")
    assert (sent.code, sent.error) == (74, "io")
    assert [each["name"] for each in sent.objects if "id" in each] == ["album/open.txt"]


def test_remove_deletes_only_the_own_copy(ana: Peer, ben: Peer, rng: random.Random) -> None:
    make_file(ana.home / "film.bin", MIB, rng)
    ana.pclient("upload", "film.bin")
    removed = ana.pclient("remove", "film.bin", "--yes")
    assert removed.code == 0
    assert not (ana.shared / "film.bin").exists()
    assert (ben.shared / "film.bin").exists()
    assert [each["holders"] for each in ana.pclient("files").objects] == [1]
    missing = ana.pclient("remove", "film.bin", "--yes")
    assert (missing.code, missing.error) == (66, "no_such_file")


def test_passwd_changes_the_password(cluster: Cluster, ana: Peer) -> None:
    assert ana.pclient("passwd", "--password-stdin", typed="correct horse\nbattery staple\n").code == 0
    ana.pclient("logout")
    refused = ana.pclient("login", "ana", "--password-stdin", typed="correct horse\n")
    assert (refused.code, refused.error) == (77, "login_refused")
    assert ana.pclient("login", "ana", "--password-stdin", typed="battery staple\n").code == 0


def test_logging_in_as_another_user_logs_the_first_out(cluster: Cluster, ana: Peer) -> None:
    other = ana.login("other")
    assert other.one == {"user": "other", "registered": True}
    assert [peer["user"] for peer in ana.pclient("peers").objects] == ["other"]


def test_a_refused_login_keeps_the_session(cluster: Cluster, ana: Peer, ben: Peer) -> None:
    (ana.shared / "mine.txt").write_text("mine")
    eventually(lambda: [each["name"] for each in ben.pclient("files").objects] == ["mine.txt"])
    assert ana.pclient("login", "ben", "--password-stdin", typed="wrong\n").code == 77
    assert ana.pclient("login", "no user", "--password-stdin", typed="correct horse\n").code == 2
    assert [each["holders"] for each in ben.pclient("files").objects] == [1]
    cluster.tracker.kill()
    assert ana.pclient("login", "new", "--password-stdin", typed="correct horse\n").code == 69
    assert ana.pclient("status").one["user"] == "ana"
    cluster.tracker.start()
    eventually(lambda: [each["holders"] for each in ben.pclient("files").objects] == [1])


def test_a_session_survives_restarts_of_pserver_and_tracker(cluster: Cluster, ana: Peer, ben: Peer) -> None:
    assert ana.terminate() == 0
    cluster.tracker.kill()
    cluster.tracker.start()
    ana.start()
    assert ana.pclient("status").one["user"] == "ana"
    eventually(lambda: {peer["user"] for peer in ben.pclient("peers").objects} == {"ana", "ben"})


def test_an_invalid_name_is_refused_with_the_rule(ana: Peer) -> None:
    (ana.home / "bad:name").write_text("x")
    for words in (["upload", "bad:name"], ["download", "../x"], ["download", "a\\b"], ["download", "CON"]):
        refused = ana.pclient(*words)
        assert (refused.code, refused.error) == (2, "bad_name"), refused
    [error] = [each["error"] for each in ana.pclient("upload", "bad:name").objects]
    assert (error["name"], error["message"].endswith("; rename it")) == ("bad:name", True)
    # One object for each argument.
    assert len(ana.pclient("download", "zzz", "", "a//b").objects) == 3


def test_with_json_everything_on_stdout_is_json(ana: Peer, ben: Peer, rng: random.Random) -> None:
    share(ana, "film.bin", 20 * MIB, rng)
    for words in (["download", "film.bin"], ["files"], ["peers"], ["status"], ["upload", "none"], ["frob"], ["--frob"]):
        for line in ben.pclient(*words).stdout.splitlines():
            assert isinstance(json.loads(line), dict)


def test_quiet_prints_only_errors(ana: Peer, ben: Peer, rng: random.Random) -> None:
    share(ana, "film.bin", 20 * MIB, rng)
    got = ben.pclient("--quiet", "download", "film.bin", json_output=False)
    assert (got.code, got.stderr) == (0, "")
    missing = ben.pclient("download", "missing.bin", "--quiet", json_output=False)
    assert missing.code == 66
    assert len(missing.stderr.splitlines()) == 1


def test_a_closed_or_full_stdout_is_no_traceback(ana: Peer) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(ana.command("status"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(ana.command("status"), stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "Traceback" not in gone.stderr


def test_an_env_fault_is_a_json_object(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PSERVER_URL=127.0.0.1\nPSERVER_PORT=99999\n")
    done = subprocess.run(
        [sys.executable, PCLIENT, tmp_path / ".env", "files", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert json.loads(done.stdout)["error"]["code"] == "bad_env"


def test_a_command_and_its_results_may_exceed_one_message(ana: Peer) -> None:
    top = ana.shared / ("a" * 200)
    folder = top.joinpath("b" * 200, "c" * 200, "d" * 200)
    folder.mkdir(parents=True)
    leaves = [f"{number:04}" + "x" * 186 for number in range(2_300)]
    for leaf in leaves:
        (folder / leaf).write_text(leaf)
    # The shell would expand * to these names; pclient sends absolute paths.
    command = ana.command("--json", "upload", "--copies", "0", *leaves)
    uploaded = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert uploaded.returncode == 0, uploaded.stderr
    names = [str((folder / leaf).relative_to(ana.shared)) for leaf in leaves]
    assert sum(map(len, names)) > MESSAGE_MAX
    assert [json.loads(line)["name"] for line in uploaded.stdout.splitlines()] == names

    removed = ana.pclient("remove", f"{top.name}/", "--yes")

    assert removed.code == 0, removed.stderr
    assert [each["name"] for each in removed.objects] == names
    assert not top.exists()
