"""Names of one content, and names in another spelling, as users of real programs meet them."""

import unicodedata
from pathlib import Path

import pytest

from system.cluster import Cluster, Peer
from system.releases import THIS_RELEASE, Release

LARGE = bytes(range(256)) * 12000
PACKAGE = {
    "pkg/LICENSE": b"do what you like",
    "pkg/vendor/LICENSE": b"do what you like",
    "pkg/__init__.py": b"",
    "pkg/vendor/__init__.py": b"",
    "pkg/data.bin": LARGE,
    "pkg/vendor/data.bin": LARGE,
}


def write_package(folder: Path) -> None:
    for name, content in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def contents(peer: Peer) -> dict[str, bytes]:
    files = [path for path in peer.shared.rglob("*") if path.is_file() and ".p2p" not in path.parts]
    return {path.relative_to(peer.shared).as_posix(): path.read_bytes() for path in files}


def test_all_names_of_a_folder_survive_its_uploader(cluster: Cluster) -> None:
    ana, ben, cia = (cluster.peer(name) for name in ("ana", "ben", "cia"))
    write_package(ana.home)
    uploaded = ana.pclient("upload", "pkg", "--copies", "2")
    assert uploaded.code == 0, uploaded
    assert {each["name"]: sorted(each["copies"]) for each in uploaded.objects} == dict.fromkeys(
        PACKAGE, sorted([ben.address, cia.address])
    )
    ana.kill()
    assert contents(ben) == contents(cia) == PACKAGE


@pytest.mark.history
def test_a_receiver_of_the_previous_release_counts_for_the_names_that_it_stores(
    cluster: Cluster, previous_release: Release
) -> None:
    ana = cluster.peer("ana")
    ben = cluster.peer("ben", release=previous_release)
    write_package(ana.home)
    uploaded = ana.pclient("upload", "pkg")
    assert uploaded.code == 69, uploaded
    stored = {each["name"] for each in uploaded.objects if "copies" in each}
    refused = {each["error"]["name"] for each in uploaded.objects if "error" in each}
    assert stored == set(contents(ben))
    assert stored | refused == set(PACKAGE)
    assert len(stored) == len(set(PACKAGE.values()))
    assert "upgrade it to 0.2.0 or later" in uploaded.stderr + uploaded.stdout
    # Upgraded, it stores the others without their bytes.
    ben.restart_as(THIS_RELEASE.pserver)
    ben.pclient_until_success("files")
    ana.pclient_until_success("upload", "pkg")
    assert contents(ben) == PACKAGE


@pytest.mark.history
def test_all_names_are_copied_with_a_tracker_of_the_previous_release(
    empty_cluster: Cluster, previous_release: Release
) -> None:
    empty_cluster.start_tracker(previous_release)
    ana, ben = empty_cluster.peer("ana"), empty_cluster.peer("ben")
    write_package(ana.home)
    uploaded = ana.pclient("upload", "pkg")
    assert uploaded.code == 0, uploaded
    assert contents(ben) == PACKAGE


def test_a_name_from_macos_is_found_as_it_is_typed(cluster: Cluster) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    stored = unicodedata.normalize("NFD", "Caf\xe9/Men\xfc.PDF")
    (ana.shared / stored).parent.mkdir()
    (ana.shared / stored).write_bytes(b"menu")
    typed = "caf\xe9/men\xfc.pdf"
    assert ana.pclient("upload", str(ana.shared / typed), "--copies", "0").one["name"] == stored
    for argument in (typed, "CAF\xc9/", "caf?/m*.pdf"):
        downloaded = ben.pclient("download", argument)
        assert downloaded.one["name"] == stored
        assert downloaded.one["path"] == str(ben.shared / stored)
        assert ben.pclient("remove", argument, "--yes").one["name"] == stored
    assert [file["name"] for file in ben.pclient("files", "CAF\xc9").objects] == [stored]
