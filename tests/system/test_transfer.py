"""Transfers between peers with commands, and the bytes on disk."""

import random
import shutil
from pathlib import Path

from eventually import eventually
from system.cluster import SOURCE_FAILED, Cluster
from system.payload import digest, digests_in, make_file

MIB = 1 << 20


def test_an_upload_stores_a_copy_at_another_peer(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    source = make_file(ana.home / "film.bin", 3 * MIB + 7, rng)

    sent = ana.pclient("upload", "film.bin").one

    assert sent["name"] == "film.bin"
    assert sent["size"] == 3 * MIB + 7
    assert sent["copies"] == [ben.address]
    assert digest(ben.shared / "film.bin") == digest(ana.shared / "film.bin") == digest(source)


def test_a_downloader_becomes_a_holder(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = (cluster.peer(name) for name in ("ana", "ben", "cid"))
    source = make_file(ana.home / "film.bin", 3 * MIB, rng)
    sent = ana.pclient("upload", "film.bin", "--copies", "0").one
    assert sent["copies"] == []

    got = ben.pclient("download", "film.bin").one

    assert got["id"] == sent["id"]
    assert got["path"] == str(ben.shared / "film.bin")
    assert got["holders"] == [ana.address]
    assert got["resumed_bytes"] == 0
    assert digest(ben.shared / "film.bin") == digest(source)

    ana.kill()
    again = cid.pclient("download", "film.bin").one
    assert again["holders"] == [ben.address]
    assert digest(cid.shared / "film.bin") == digest(source)


def test_a_file_of_any_size_arrives_identical(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    sizes = {f"{size}.bin": size for size in (0, 1, MIB - 1, MIB, MIB + 1)}
    for name, size in sizes.items():
        make_file(ana.home / name, size, rng)
        make_file(ben.home / "back" / name, size, rng)

    assert ana.pclient("upload", *sizes, "--copies", "0").code == 0
    got = ben.pclient("download", *sizes)
    assert {each["name"]: each["size"] for each in got.objects} == sizes
    assert {Path(each["path"]).name: digest(Path(each["path"])) for each in got.objects} == {
        name: digest(ana.home / name) for name in sizes
    }

    sent = ben.pclient("upload", "back")
    assert [each["copies"] for each in sent.objects] == [[ana.address]] * len(sizes)
    # Each name counts: the empty file too, although ana has its content under another name.
    assert digests_in(ana.shared / "back") == digests_in(ben.home / "back")


ODD_NAMES = [
    "two words  and  more.txt",
    "déjà vu - naïve.txt",
    "日本語のファイル.txt",
    "family 👨‍👩‍👧 photo 🎉.jpg",
    "x" * 196 + ".txt",
    "-starts-with-a-dash",
    "--help",
    "[red]brackets[red] & 'quotes' \"double\" $HOME `x`.txt",
    "100%.txt",
]


def test_unusual_names_arrive_unchanged(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    for name in ODD_NAMES:
        make_file(ana.home / name, 1000, rng)

    sent = ana.pclient("upload", "--copies", "0", "--", *ODD_NAMES)
    assert sent.code == 0, sent
    got = ben.pclient("download", "--", *ODD_NAMES)

    assert got.code == 0, got
    assert sorted(each["name"] for each in got.objects) == sorted(ODD_NAMES)
    assert digests_in(ben.shared) == {name: digest(ana.home / name) for name in ODD_NAMES}


def test_a_folder_of_2000_files_is_uploaded_and_downloaded(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = cluster.peer("ana"), cluster.peer("ben"), cluster.peer("cid")
    for number in range(2000):
        make_file(ana.home / "tree" / f"folder {number % 50:02}" / f"{number}.dat", rng.randrange(8192), rng)
    expected = {f"tree/{name}": value for name, value in digests_in(ana.home / "tree").items()}

    sent = ana.pclient("upload", "tree", seconds=200)
    assert sent.code == 0, sent.stderr
    assert len(sent.objects) == 2000
    assert digests_in(ana.shared) == expected

    receiver = ben if sent.objects[0]["copies"] == [ben.address] else cid
    other = cid if receiver is ben else ben
    assert {url for each in sent.objects for url in each["copies"]} <= {ben.address, cid.address}
    got = other.pclient("download", "tree/", seconds=200)
    assert got.code == 0, got.stderr
    assert len(got.objects) == 2000
    assert digests_in(other.shared) == expected


def test_a_tracker_restart_between_upload_and_download_changes_nothing(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    source = make_file(ana.home / "film.bin", 2 * MIB, rng)
    assert ana.pclient("upload", "film.bin", "--copies", "0").code == 0

    cluster.tracker.kill()
    cluster.tracker.start()
    got = ben.pclient_until_success("download", "film.bin")

    assert digest(Path(got["path"])) == digest(source)
    assert ana.status().user == "ana"


def test_one_thousand_shared_files_are_listed_in_pages(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana", login=False), cluster.peer("ben")
    for number in range(1000):
        make_file(ana.shared / f"{number:04}.dat", 10, rng)
    ana.login("ana")
    eventually(lambda: len(ben.pclient("files").objects) == 1000, 60)

    listed = ben.pclient("files")

    assert [each["name"] for each in listed.objects] == [f"{number:04}.dat" for number in range(1000)]


def test_a_file_put_into_the_shared_folder_is_shared(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    source = make_file(ana.shared / "folder" / "note.txt", 5000, rng)

    got = ben.pclient_until_success("download", "folder/note.txt")
    assert digest(Path(got["path"])) == digest(source)

    source.unlink()
    ben.pclient("remove", "folder/note.txt", "--yes")
    eventually(lambda: ben.pclient("files").objects == [])


def test_a_logged_out_peer_serves_no_files(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.shared / "note.txt", 5000, rng)
    assert ana.pclient("upload", "shared/note.txt", "--copies", "0").code == 0
    assert len(ben.pclient("files").objects) == 1

    assert ana.pclient("logout").one["user"] == "ana"

    assert ben.pclient("files").objects == []
    refused = ben.pclient("download", "note.txt")
    assert (refused.code, refused.error) == (66, "no_such_file")
    assert ana.pclient("logout").code == 0


def test_small_files_arrive_from_a_holder_with_a_low_upload_limit(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana", UPLOAD_LIMIT="128K"), cluster.peer("ben")
    for number in range(20):
        make_file(ana.home / "many" / f"{number}.bin", 16 << 10, rng)
    # At this rate it takes longer than the idle timeout, and it fits into one message.
    make_file(ana.home / "many" / "large.bin", 800 << 10, rng)
    assert ana.pclient("upload", "many", "--copies", "0").code == 0

    assert ben.pclient("download", "many/").code == 0

    assert digests_in(ben.shared / "many") == digests_in(ana.home / "many")
    log = ben.program.log.read_text()
    assert SOURCE_FAILED not in log, log


def test_a_slow_holder_is_asked_for_few_small_files(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = cluster.peer("ana", UPLOAD_LIMIT="64K"), cluster.peer("ben"), cluster.peer("cid")
    for number in range(300):
        make_file(ana.home / "many" / f"{number}.bin", 16 << 10, rng)
    assert ana.pclient("upload", "many", "--copies", "0").code == 0
    for path in sorted((ana.home / "many").iterdir()):
        (ben.shared / "many").mkdir(exist_ok=True)
        shutil.copyfile(path, ben.shared / "many" / path.name)
    eventually(lambda: [row["holders"] for row in cid.pclient("files", "many/*").objects] == [2] * 300)

    got = cid.pclient("download", "many/")

    assert got.code == 0
    assert digests_in(cid.shared / "many") == digests_in(ana.home / "many")
    # An even split would give the slow holder 150 files, which take it 40 s.
    assert sum(row["holders"] == [ana.address] for row in got.objects) < 30
