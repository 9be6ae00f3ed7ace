"""The previous release works together with this one: programs of both on one network, and one in place of the other."""

import random
import shutil
from pathlib import Path

import pytest

from system.cluster import Cluster
from system.payload import digest, digests_in, make_file
from system.releases import THIS_RELEASE, Release

pytestmark = pytest.mark.history

MIB = 1 << 20
SMALL_FILES = 150


def make_files(folder: Path, rng: random.Random) -> dict[str, str]:
    """Make a file of several pieces and many small ones; return their digests by name."""
    make_file(folder / "film.bin", 5 * MIB + 7, rng)
    for number in range(SMALL_FILES):
        make_file(folder / "small" / f"{number}.dat", rng.randrange(1, 20_000), rng)
    return {f"{folder.name}/{name}": value for name, value in digests_in(folder).items()}


@pytest.mark.parametrize("old_tracker", [False, True], ids=["new tracker", "old tracker"])
def test_peers_of_both_releases_exchange_files(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random, old_tracker: bool
) -> None:
    empty_cluster.start_tracker(previous_release if old_tracker else THIS_RELEASE)
    old, new = empty_cluster.peer("old", release=previous_release), empty_cluster.peer("new")
    from_old, from_new = make_files(old.home / "from old", rng), make_files(new.home / "from new", rng)

    for sender, receiver, folder in ((old, new, "from old"), (new, old, "from new")):
        sent = sender.pclient("upload", folder)
        assert sent.code == 0, sent
        assert {url for each in sent.objects for url in each["copies"]} == {receiver.address}
    assert digests_in(old.shared) == digests_in(new.shared) == from_old | from_new


@pytest.mark.parametrize("old_pclient", [True, False], ids=["old pclient", "new pclient"])
def test_the_pclient_of_one_release_drives_the_pserver_of_the_other(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random, old_pclient: bool
) -> None:
    empty_cluster.start_tracker()
    of_pserver, of_pclient = (THIS_RELEASE, previous_release) if old_pclient else (previous_release, THIS_RELEASE)
    ana = empty_cluster.peer("ana", release=of_pserver, login=False)
    ana.pclient_script = of_pclient.pclient
    ben = empty_cluster.peer("ben")
    uploaded, downloaded = make_files(ana.home / "mine", rng), make_files(ben.home / "theirs", rng)
    ben.pclient("upload", "theirs", "--copies", "0")

    assert ana.login("ana").one["user"] == "ana"
    sent = ana.pclient("upload", "mine", "--copies", "1")
    assert sent.code == 0, sent
    assert {url for each in sent.objects for url in each["copies"]} == {ben.address}
    got = ana.pclient("download", "theirs/")
    assert got.code == 0, got
    assert digests_in(ana.shared) == uploaded | downloaded

    assert {each["name"] for each in ana.pclient("files", "*.bin").objects} == {"mine/film.bin", "theirs/film.bin"}
    assert {each["user"] for each in ana.pclient("peers").objects} == {"ana", "ben"}
    status = ana.pclient("status").one
    assert (status["user"], status["logged_in"], status["files"]) == ("ana", True, len(uploaded | downloaded))
    removed = ana.pclient("remove", "mine/", "--yes")
    assert removed.code == 0 and {each["name"] for each in removed.objects} == set(uploaded)
    assert digests_in(ana.shared) == downloaded
    missing = ana.pclient("download", "no such file")
    assert (missing.code, missing.error) == (66, "no_such_file")
    assert ana.pclient("logout").one["user"] == "ana"


def test_a_pserver_goes_on_while_its_tracker_is_replaced_by_this_release_and_back(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random
) -> None:
    tracker = empty_cluster.start_tracker(previous_release)
    state, copy = empty_cluster.folder / "tracker", empty_cluster.folder / "copy of the state"
    ana, ben = empty_cluster.peer("ana"), empty_cluster.peer("ben", release=previous_release)

    def upgrade() -> None:
        tracker.terminate()
        shutil.copytree(state, copy)
        tracker.restart_as(THIS_RELEASE.server)

    def go_back() -> None:
        tracker.terminate()
        shutil.rmtree(state)
        copy.rename(state)
        tracker.restart_as(previous_release.server)

    for number, change in enumerate((lambda: None, upgrade, go_back)):
        change()
        for sender, receiver in ((ana, ben), (ben, ana)):
            name = f"{number} of {sender.home.name}"
            source = make_file(sender.home / name, 2 * MIB, rng)
            assert sender.pclient_until_success("upload", name, "--copies", "0")["name"] == name
            receiver.pclient_until_success("download", name)
            assert digest(receiver.shared / name) == digest(source)
    assert [peer.status().user for peer in (ana, ben)] == ["ana", "ben"]
    for peer in (ana, ben):
        assert "log in again" not in peer.program.log.read_text()
