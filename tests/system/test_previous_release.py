"""The previous release works together with this one: programs of both on one network, and one in place of the other."""

import random
from pathlib import Path

import pytest

from system.cluster import Cluster
from system.payload import digests_in, make_file
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
