"""The time of modification and the executable bit of files, as users of real programs see them."""

import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.payload import make_file

MIB = 1 << 20
OLD = 981_173_106.25


@pytest.fixture
def ana(cluster: Cluster) -> Peer:
    return cluster.peer("ana")


@pytest.fixture
def ben(cluster: Cluster, ana: Peer) -> Peer:
    del ana
    return cluster.peer("ben")


def share(peer: Peer, name: str, content: bytes, modified: float, mode: int = 0o644) -> None:
    path = peer.shared / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (modified, modified))
    assert peer.pclient("upload", str(path), "--copies", "0").code == 0


def on_disk(path: Path) -> tuple[float, int]:
    status = path.stat()
    return status.st_mtime, stat.S_IMODE(status.st_mode)


def test_a_project_runs_where_it_was_copied_to_and_its_times_are_the_same(
    ana: Peer, ben: Peer, rng: random.Random
) -> None:
    project = ana.home / "project"
    make_file(project / "data.bin", 2 * MIB + 1, rng)
    (project / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (project / "notes.txt").write_text("notes")
    for path, mode in (("data.bin", 0o600), ("run.sh", 0o750), ("notes.txt", 0o640)):
        (project / path).chmod(mode)
        os.utime(project / path, (OLD, OLD))

    sent = ana.pclient("upload", "project", "--copies", "1")

    assert sent.code == 0, sent
    # The copies that ana shares have the permissions of the files; ben's have the executable bit.
    assert on_disk(ana.shared / "project/data.bin") == (OLD, 0o600)
    assert on_disk(ana.shared / "project/run.sh") == (OLD, 0o750)
    umask = os.umask(0)
    os.umask(umask)
    assert on_disk(ben.shared / "project/data.bin") == (OLD, 0o644 & ~umask)
    assert on_disk(ben.shared / "project/run.sh") == (OLD, 0o755 & ~umask)
    assert on_disk(ben.shared / "project/notes.txt") == (OLD, 0o644 & ~umask)
    ran = subprocess.run([ben.shared / "project/run.sh"], capture_output=True, text=True, check=True)
    assert ran.stdout == "it runs\n"

    listed = {each["name"]: each for each in ben.pclient("files", "project/*").objects}
    assert {each["modified"] for each in listed.values()} == {OLD}
    assert [name for name, each in listed.items() if each["executable"]] == ["project/run.sh"]
    out = ben.home / "out"
    out.mkdir()
    assert ben.pclient("download", "project/", "--output", "./out/").code == 0
    assert on_disk(out / "project/run.sh") == (OLD, 0o755 & ~umask)
    assert on_disk(out / "project/data.bin") == (OLD, 0o644 & ~umask)


def test_a_change_of_mode_or_time_is_announced_and_copies_that_exist_stay_as_they_are(ana: Peer, ben: Peer) -> None:
    share(ana, "tool", b"#!/bin/sh\n", OLD)
    assert ben.pclient("download", "tool").code == 0
    (ana.shared / "tool").chmod(0o755)
    os.utime(ana.shared / "tool", (OLD + 60, OLD + 60))

    def listed() -> list[tuple[float, bool]]:
        return [(each["modified"], each["executable"]) for each in ben.pclient("files", "tool").objects]

    # Of equal numbers of holders, the later time counts.
    eventually(lambda: listed() == [(OLD + 60, True)])
    again = ben.pclient("download", "tool").one
    assert again["present"] is True
    assert on_disk(ben.shared / "tool")[0] == OLD
    assert not on_disk(ben.shared / "tool")[1] & 0o111


def test_newest_ends_the_ambiguity_and_an_equal_time_does_not(cluster: Cluster, ana: Peer, ben: Peer) -> None:
    share(ana, "letter", b"older", OLD)
    share(ben, "letter", b"newer", OLD + 1)
    share(ana, "twins", b"one", OLD)
    share(ben, "twins", b"two", OLD)
    reader = cluster.peer("reader")
    refused = reader.pclient("download", "letter", json_output=False)
    assert refused.code == 2 and "--newest" in refused.stderr
    equal = reader.pclient("download", "twins", "--newest", json_output=False)
    assert equal.code == 2 and "--newest" not in equal.stderr and "by its id" in equal.stderr
    assert reader.pclient("download", "letter", "--newest").one["size"] == 5
    assert (reader.shared / "letter").read_bytes() == b"newer"
