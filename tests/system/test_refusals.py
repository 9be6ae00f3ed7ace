"""Refused commands: each has a code and one line, and changes no file."""

import functools
import os
import random
from pathlib import Path
from typing import Any

import pytest

from bit_rot import flip_byte
from eventually import eventually
from full_disk import fill, small_file_system
from programs import NotReady
from system.cluster import PASSWORD, Cluster, Peer
from system.payload import digest, make_file

MIB = 1 << 20


def listed(peer: Peer, versions: int) -> bool:
    """Return whether `peer` sees at least `versions` versions in the network."""
    return len(peer.pclient("files").objects) >= versions


def test_a_download_never_replaces_a_different_file(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / "note.txt", MIB, rng)
    assert ana.pclient("upload", "note.txt", "--copies", "0").code == 0
    mine = digest(make_file(ben.shared / "note.txt", 1000, rng))

    for versions in (1, 2):  # before and after ben's own version is announced
        eventually(functools.partial(listed, ben, versions))
        for argument in ("note.txt", "n*.txt"):
            refused = ben.pclient("download", argument)
            assert (refused.code, refused.error) == (73, "target_exists")
    assert digest(ben.shared / "note.txt") == mine
    renamed = ben.pclient("download", "note.txt", "--output", "theirs.txt").one
    assert digest(ben.shared / "theirs.txt") == digest(ana.home / "note.txt")
    assert renamed["path"] == str(ben.shared / "theirs.txt")


def test_a_copy_outside_needs_a_free_name_in_the_shared_folder(cluster: Cluster) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    for peer in (ana, ben):
        (peer.home / "note.txt").write_text(f"of {peer.address}")
        assert peer.pclient("upload", "note.txt", "--copies", "0").code == 0

    refused = ben.pclient("download", "note.txt", "--output", "./copy.txt")

    assert (refused.code, refused.error) == (73, "target_exists")
    assert refused.objects[0]["error"]["message"].startswith(
        "note.txt already exists in the shared folder with different content, where a download is stored first"
    )


def test_an_upload_never_replaces_a_different_file(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.shared / "note.txt", 1000, rng)
    before = digest(ana.shared / "note.txt")
    make_file(ana.home / "note.txt", 2000, rng)

    refused = ana.pclient("upload", "note.txt", "--copies", "0")

    assert (refused.code, refused.error) == (73, "target_exists")
    assert digest(ana.shared / "note.txt") == before


def test_a_file_that_verifies_from_no_holder_is_not_verified(
    cluster: Cluster, rng: random.Random, in_memory: Path
) -> None:
    ana, ben = cluster.peer("ana", SHARED_DIR=in_memory), cluster.peer("ben")
    for name, size in (("large.bin", 2 * MIB), ("small.bin", 1000)):
        path = make_file(ana.shared / name, size, rng)
        assert ana.pclient("upload", str(path), "--copies", "0").code == 0
        flip_byte(path, 0)

    refused = ben.pclient("download", "large.bin", "small.bin")

    assert refused.code == 76
    assert {each["error"]["name"]: each["error"]["code"] for each in refused.objects} == {
        "large.bin": "not_verified",
        "small.bin": "not_verified",
    }
    assert not list(ben.shared.glob("[!.]*"))


def test_a_path_with_nul_is_no_such_file(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    typed = ana.start_command(typed="1\na\0b\n0\n", json_output=False).wait()
    assert (typed.code, "File not found" in typed.stdout) == (0, True)


def test_an_upload_without_another_peer_stays_shared(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.home / "note.txt", 1000, rng)

    refused = ana.pclient("upload", "note.txt")

    assert (refused.code, refused.error) == (69, "no_active_peer")
    assert (ana.shared / "note.txt").is_file()
    assert [each["name"] for each in ana.pclient("files").objects] == ["note.txt"]


def test_fewer_copies_than_requested_is_a_success_with_a_warning(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / "note.txt", 1000, rng)

    sent = ana.pclient("upload", "note.txt", "--copies", "5")

    assert sent.one["copies"] == [ben.address]
    assert sent.stderr.strip()


def test_an_ambiguous_name_is_downloaded_by_id(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = (cluster.peer(name) for name in ("ana", "ben", "cid"))
    ids = set()
    for peer in (ana, ben):
        make_file(peer.home / "note.txt", 1000, rng)
        ids.add(peer.pclient("upload", "note.txt", "--copies", "0").one["id"])

    refused = cid.pclient("download", "note.txt")

    assert (refused.code, refused.error) == (2, "ambiguous_name")
    assert all(each in refused.stdout for each in ids)
    chosen = min(ids)
    assert cid.pclient("download", chosen).one["id"] == chosen


def test_a_repeated_download_has_nothing_to_do(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / "note.txt", 1000, rng)
    assert ana.pclient("upload", "note.txt", "--copies", "0").code == 0

    first, second = ben.pclient("download", "note.txt").one, ben.pclient("download", "note.txt").one

    assert first["path"] == second["path"]
    assert second["holders"] == []


def test_the_state_folder_is_never_shared(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.home / "note.txt", 1000, rng)
    for secret in ("session", "cookie"):
        refused = ana.pclient("upload", str(ana.state / secret))
        assert (refused.code, refused.error) == (77, "not_allowed")

    assert ana.pclient("upload", str(ana.home), "--copies", "0").code == 0
    assert [each["name"] for each in ana.pclient("files").objects] == ["ana/note.txt"]


def test_state_folders_of_other_daemons_are_never_shared(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    tracker = cluster.folder / "tracker"
    make_file(cluster.folder / "proj" / "note.txt", 1000, rng)
    # The session file is secret also while no pserver runs.
    ben.terminate()
    for path in (ben.state, ben.state / "session", tracker, tracker / "accounts.sqlite3", tracker / "secret"):
        refused = ana.pclient("upload", str(path))
        assert (refused.code, refused.error) == (77, "not_allowed"), path

    sent = ana.pclient("upload", str(cluster.folder), "--copies", "0")

    top = cluster.folder.name
    refused_names = {
        each["error"]["name"] for each in sent.objects if each.get("error", {}).get("code") == "not_allowed"
    }
    assert refused_names == {f"{top}/{path.relative_to(cluster.folder)}" for path in (ben.state, tracker)}
    names = [each["name"] for each in ana.pclient("files").objects]
    assert f"{top}/proj/note.txt" in names
    secrets = {"session", "cookie", "catalog.db", ".p2p-lock", "accounts.sqlite3", "secret"}
    assert not secrets & {name.rpartition("/")[2] for name in names}


def test_a_hidden_folder_is_refused_in_one_line(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    for name in ("proj/note.txt", "proj/.git/HEAD", "proj/.git/objects/aa", "proj/deep/.cache/x"):
        make_file(ana.home / name, 10, rng)

    sent = ana.pclient("upload", "proj", "--copies", "0")
    alone = ana.pclient("upload", "proj/.git")

    assert sent.code == 2
    assert [each["name"] for each in sent.objects if "id" in each] == ["proj/note.txt"]
    faults = [each["error"] for each in sent.objects if "error" in each]
    assert [(fault["code"], fault["name"]) for fault in faults] == [
        ("bad_name", "proj/.git"),
        ("bad_name", "proj/deep/.cache"),
    ]
    assert all("begins with a dot" in fault["message"] for fault in faults)
    assert (alone.code, alone.error) == (2, "bad_name")


def test_links_and_special_files_of_a_folder_are_left_out_with_a_line(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    folder = ana.home / "lk"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "note.txt").touch()
    (folder / "file").symlink_to("deep/note.txt")
    (folder / "folder").symlink_to("deep")
    os.mkfifo(folder / "deep" / "pipe")
    (ana.home / "one").mkdir()
    (ana.home / "one" / "nowhere").symlink_to("missing")
    (ana.home / "empty" / "deep").mkdir(parents=True)

    sent = ana.pclient("upload", "lk", "one", "empty", "--copies", "0")

    assert sent.code == 0
    assert [each["name"] for each in sent.objects] == ["lk/deep/note.txt"]
    assert sent.stderr.splitlines() == [
        "lk: 3 links or special files were skipped",
        "one: 1 link or special file was skipped",
        "empty: contains no regular file",
    ]


def test_a_state_folder_inside_the_shared_folder_is_refused(cluster: Cluster) -> None:
    ana = cluster.peer("ana", login=False)
    ana.terminate()
    env = ana.env.read_text().replace(f"STATE_DIR={ana.state}", f"STATE_DIR={ana.shared / 'state'}")
    ana.env.write_text(env)
    with pytest.raises(NotReady, match="exit status 78") as refusal:
        ana.start()
    assert "STATE_DIR" in str(refusal.value)


def test_a_command_needs_a_login(cluster: Cluster) -> None:
    ana = cluster.peer("ana", login=False)
    refused = ana.pclient("download", "note.txt")
    assert (refused.code, refused.error) == (77, "not_logged_in")


def test_a_wrong_password_is_refused(cluster: Cluster) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben", login=False)
    refused = ben.pclient("login", "ana", "--password-stdin", typed="wrong\n")
    assert (refused.code, refused.error) == (77, "login_refused")
    assert ana.pclient("login", "ana", "--password-stdin", typed="correct horse\n").one["registered"] is False


def test_an_unknown_name_is_not_found(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    refused = ana.pclient("download", "nothing.txt")
    assert (refused.code, refused.error) == (66, "no_such_file")
    refused = ana.pclient("upload", "nothing.txt")
    assert (refused.code, refused.error) == (66, "no_such_file")


def test_all_arguments_are_tried(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / "note.txt", 1000, rng)
    assert ana.pclient("upload", "note.txt", "--copies", "0").code == 0

    result = ben.pclient("download", "missing.txt", "note.txt")

    assert result.code == 66
    assert {each.get("name", "") for each in result.objects if "error" not in each} == {"note.txt"}
    assert [each["error"]["name"] for each in result.objects if "error" in each] == ["missing.txt"]


def test_a_command_reports_an_unreachable_tracker(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    cluster.tracker.kill()
    refused = ana.pclient("files")
    assert (refused.code, refused.error) == (69, "tracker_unreachable")


def test_an_upload_without_a_tracker_is_announced_later(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.home / "note.txt", 1000, rng)
    cluster.tracker.kill()
    refused = ana.pclient("upload", "note.txt")
    assert (refused.code, refused.error) == (69, "tracker_unreachable")
    assert "the files are shared, and announced once the tracker answers" in refused.stdout
    cluster.tracker.start()
    eventually(lambda: [each["name"] for each in ben.pclient("files").objects] == ["note.txt"])


def test_without_a_pserver_the_error_names_the_command_that_starts_one(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    ana.terminate()
    refused = ana.pclient("files")
    assert (refused.code, refused.error) == (69, "pserver_unreachable")
    assert "pserver.py" in refused.objects[0]["error"]["message"]


@pytest.mark.parametrize("key", ["STATE_DIR", "SHARED_DIR"])
def test_two_pservers_cannot_use_one_folder(cluster: Cluster, key: str) -> None:
    ana = cluster.peer("ana", login=False)
    theirs = {"STATE_DIR": ana.state, "SHARED_DIR": ana.shared}[key]
    keys: dict[str, Any] = {key: theirs}
    with pytest.raises(NotReady, match="exit status 1") as refusal:
        cluster.peer("ben", login=False, **keys)
    assert f"another pserver is running on {key} {theirs}: stop it, or choose another folder" in str(refusal.value)
    ana.kill()
    # The folder is free again.
    cluster.peer("cem", login=False, **keys)


@pytest.mark.root
def test_a_full_disk_of_the_tracker_refuses_logins_and_stops_nothing_else(empty_cluster: Cluster) -> None:
    with small_file_system(empty_cluster.folder / "tracker") as disk:
        empty_cluster.start_tracker()
        ana, ben = empty_cluster.peer("ana"), empty_cluster.peer("ben", login=False)
        (ana.home / "note.txt").write_text("note")
        ballast = fill(disk)
        refused = ben.pclient("login", "ben", "--password-stdin", typed="secret\n")
        assert (refused.code, refused.error) == (74, "disk_full")
        assert "the tracker's disk is full" in refused.objects[0]["error"]["message"]
        changed = ana.pclient("passwd", "--password-stdin", typed=f"{PASSWORD}\nanother\n")
        assert (changed.code, changed.error) == (74, "disk_full")
        assert ana.pclient("upload", "note.txt", "--copies", "0").code == 0
        ballast.unlink()
        assert ben.login("ben").code == 0
        assert ben.pclient("download", "note.txt").code == 0
        assert "Traceback" not in empty_cluster.tracker.program.tail(1000)
