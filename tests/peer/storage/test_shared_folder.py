"""Claims about the shared folder: no file outside is read or written, and no file is overwritten."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from common.state_files import LOCK_FILE
from daemon.errors import BadName, FileChanged, NoSuchFile, PeerError, StorageFault, TargetExists
from daemon.storage.disk import Disk
from daemon.storage.removal import UnwantedFile
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.storage.walk import ShareableFile, UnshareableEntry
from failing_disk import CountingDisk


def put(folder: SharedFolder, name: str, data: bytes) -> None:
    path = folder.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def publish(folder: SharedFolder, name: str, data: bytes) -> None:
    with TempFiles(folder).write(data, folder.volumes.main) as temporary:
        temporary.publish(name)


def shareable(folder: SharedFolder) -> list[str]:
    return [item.name for item in folder.walk() if isinstance(item, ShareableFile)]


def unshareable(folder: SharedFolder) -> dict[str, str]:
    return {item.name: item.reason for item in folder.walk() if isinstance(item, UnshareableEntry)}


def dot_files(folder: SharedFolder) -> list[str]:
    return os.listdir(folder.root / ".p2p")


# ------------------------------------------------------------------------------------------------------------ reading


def test_a_shared_file_is_read_in_place(folder: SharedFolder) -> None:
    put(folder, "a/b/c.txt", b"0123456789")
    with folder.open("a/b/c.txt") as file:
        assert file.read(3, 4) == b"3456"
        assert file.fingerprint == folder.fingerprint("a/b/c.txt")
        file.ensure_unchanged()


@pytest.mark.parametrize("change", ["longer", "shorter", "touched"])
def test_a_change_of_an_open_file_is_detected(folder: SharedFolder, change: str) -> None:
    put(folder, "a", b"0123456789")
    with folder.open("a") as file:
        path = folder.root / "a"
        if change == "longer":
            path.write_bytes(b"0123456789!")
        elif change == "shorter":
            os.truncate(path, 3)
            with pytest.raises(FileChanged):
                file.read(0, 10)
        else:
            os.utime(path, ns=(1, 1))
        with pytest.raises(FileChanged):
            file.ensure_unchanged()


def test_a_closed_file_cannot_be_read(folder: SharedFolder) -> None:
    put(folder, "a", b"x")
    file = folder.open("a")
    file.close()
    file.close()
    with pytest.raises(NoSuchFile):
        file.read(0, 1)


@pytest.mark.parametrize(
    "name", ["missing", "folder", "folder/missing", "file/below", "link", "way/in", "fifo", "socket"]
)
def test_only_regular_files_inside_the_folder_can_be_opened(folder: SharedFolder, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "in").write_bytes(b"secret")
    put(folder, "folder/there", b"")
    put(folder, "file", b"")
    (folder.root / "link").symlink_to(tmp_path / "outside" / "in")
    (folder.root / "way").symlink_to(tmp_path / "outside")
    os.mkfifo(folder.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.root / "socket"))
        with pytest.raises(NoSuchFile):
            folder.open(name)
        assert folder.fingerprint(name) is None


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", ".p2p/x", ".hidden", "", "a//b", "a/.", "C:\\x", "x\0y"]
)
def test_an_invalid_name_is_never_used_as_a_path(folder: SharedFolder, name: str) -> None:
    with pytest.raises(BadName):
        folder.open(name)
    with pytest.raises(BadName):
        folder.fingerprint(name)
    with TempFiles(folder).write(b"x", folder.volumes.main) as temporary, pytest.raises(BadName):
        temporary.publish(name)
    assert shareable(folder) == []


# ------------------------------------------------------------------------------------------------------------ walking


def test_a_walk_finds_files_in_folders_and_skips_dot_names(folder: SharedFolder) -> None:
    for name in ("z", "a/b/c", "a/a", ".hidden", ".git/config", "a/.x"):
        put(folder, name, b"x")
    assert shareable(folder) == ["a/a", "a/b/c", "z"]
    assert unshareable(folder) == {}


def test_a_walk_gives_the_reason_for_each_unshareable_entry(folder: SharedFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (folder.root / "way").symlink_to(tmp_path / "outside")
    (folder.root / "link").symlink_to(tmp_path / "outside" / "secret")
    os.mkfifo(folder.root / "fifo")
    for name in ("NUL.txt", "ends.", "a:b", "Twin", "twin", "caf\u00e9", "cafe\u0301"):
        put(folder, name, b"")
    with open(os.fsencode(folder.root) + b"/not\xffutf8", "wb"):
        pass
    reasons = unshareable(folder)
    assert set(reasons) == {"way", "link", "fifo", "NUL.txt", "ends.", "a:b", "twin", "caf\u00e9", "not\\xffutf8"}
    assert "link" in reasons["way"] and "link" in reasons["link"]
    assert "Twin" in reasons["twin"]
    assert shareable(folder) == ["Twin", "cafe\u0301"]


def test_the_state_dir_of_another_daemon_is_not_shared(folder: SharedFolder) -> None:
    for name in ("film", "ben/session", "ben/deep/file", "a/tracker/secret"):
        put(folder, name, b"x")
    for state in ("ben", "a/tracker"):
        put(folder, f"{state}/{LOCK_FILE}", b"")
    assert shareable(folder) == ["film"]
    state = "STATE_DIR of a tracker or another pserver"
    assert unshareable(folder) == {"ben": state, "a/tracker": state}


def test_a_folder_with_file_names_of_a_state_dir_is_still_shared(folder: SharedFolder) -> None:
    names = ["films/cookie", "films/lock", "films/one", "films/session"]
    for name in names:
        publish(folder, name, b"x")
    assert (shareable(folder), unshareable(folder)) == (names, {})


def test_a_walk_stops_at_the_longest_allowed_depth(folder: SharedFolder) -> None:
    put(folder, "/".join("d" * 31 + "f"), b"")
    put(folder, "/".join("e" * 32 + "f"), b"")
    assert shareable(folder) == ["/".join("d" * 31 + "f")]
    assert len(unshareable(folder)) == 1


def test_a_file_whose_full_name_is_too_long_is_not_shared(folder: SharedFolder) -> None:
    put(folder, "/".join(["\u00e9" * 100] * 4 + ["\u00e9" * 98]), b"")
    put(folder, "/".join(["\u00e9" * 100] * 4 + ["\u00e9" * 99]), b"")
    assert len(shareable(folder)) == 1
    assert ["1000 bytes" in reason for reason in unshareable(folder).values()] == [True]


@contextmanager
def flipping(path: Path, outside: Path) -> Iterator[None]:
    """Exchange `path` with a link to `outside` and back in a loop; the exchange is atomic, so one of them exists."""
    over = threading.Event()
    link = path.with_name(".link")
    link.symlink_to(outside)
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2

    def flip() -> None:
        while not over.is_set():
            assert renameat2(-100, os.fsencode(path), -100, os.fsencode(link), 2) == 0, os.strerror(ctypes.get_errno())

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("rounds", [500, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("at", ["folder", "folder/file"])
def test_a_link_swapped_in_exposes_nothing_outside(folder: SharedFolder, tmp_path: Path, at: str, rounds: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside")
    put(folder, "folder/file", b"inside")
    inode = (outside / "file").stat().st_ino
    with flipping(folder.root / at, outside if at == "folder" else outside / "file"):
        for _ in range(rounds):
            try:
                with folder.open("folder/file") as file:
                    assert file.read(0, 6) == b"inside"
            except NoSuchFile:
                pass
            assert all(item.fingerprint.inode != inode for item in folder.walk() if isinstance(item, ShareableFile))
            fingerprint = folder.fingerprint("folder/file")
            assert fingerprint is None or fingerprint.inode != inode


@pytest.mark.parametrize("rounds", [250, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_a_link_swapped_in_lets_nothing_be_written_outside(folder: SharedFolder, tmp_path: Path, rounds: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    put(folder, "folder/file", b"inside")
    with flipping(folder.root / "folder", outside):
        for number in range(rounds):
            with suppress(TargetExists, NoSuchFile, StorageFault):
                publish(folder, f"folder/{number}", b"x")
            fingerprint = folder.fingerprint(f"folder/{number}")
            if fingerprint is not None:
                folder.remove([UnwantedFile(f"folder/{number}", fingerprint)])
    assert list(outside.iterdir()) == []
    assert dot_files(folder) == []


# --------------------------------------------------------------------------------------------------------- publishing


def test_publishing_creates_the_folders_of_a_name(folder: SharedFolder) -> None:
    publish(folder, "new/folders/file.sh", b"contents")
    path = folder.root / "new/folders/file.sh"
    assert path.read_bytes() == b"contents"
    assert dot_files(folder) == []
    assert path.stat().st_nlink == 1
    assert stat.S_IMODE(path.stat().st_mode) & ~0o644 == 0


def test_published_files_have_the_fingerprints_that_are_returned(folder: SharedFolder) -> None:
    temp_files = TempFiles(folder)
    files = [temp_files.write(b"x", folder.volumes.main) for _ in range(3)]
    names = ["a", "b/c", "b/d"]
    returned = folder.publish_many([file.named(name) for file, name in zip(files, names, strict=True)])
    assert returned == folder.fingerprints(names)
    assert not any(isinstance(each, PeerError) for each in returned)


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("a.txt", "a.txt"),
        ("a.txt", "A.TXT"),
        ("Docs/a.txt", "docs/A.txt"),
        ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("a", "a/b"),
        ("a/b", "a"),
    ],
)
def test_publishing_never_overwrites(folder: SharedFolder, there: str, name: str) -> None:
    put(folder, there, b"mine")
    with TempFiles(folder).write(b"theirs", folder.volumes.main) as temporary:
        with pytest.raises(TargetExists, match=r"exists .*; rename"):
            temporary.publish(name)
        assert dot_files(folder) == [temporary.temporary]
    assert (folder.root / there).read_bytes() == b"mine"
    assert shareable(folder) == [there]
    assert dot_files(folder) == []


def test_a_link_with_the_name_of_a_folder_is_not_followed(folder: SharedFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder.root / "way").symlink_to(tmp_path / "outside")
    (folder.root / "dangling").symlink_to(tmp_path / "outside" / "new")
    for name in ("way/file", "dangling", "dangling/file"):
        with pytest.raises(TargetExists):
            publish(folder, name, b"x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_each_file_of_a_batch_has_its_own_outcome(folder: SharedFolder) -> None:
    put(folder, "taken", b"mine")
    store = TempFiles(folder)
    names = ["d/1", "taken", "d/2", "D/1", "../x", *(f"f{n}/x" for n in range(10))]
    files = [store.write(name.encode(), folder.volumes.main) for name in names]
    store.sync_all(files)
    outcomes = folder.publish_many([file.named(name) for file, name in zip(files, names, strict=True)])
    failed = {name: type(out) for name, out in zip(names, outcomes, strict=True) if isinstance(out, PeerError)}
    assert failed == {"taken": TargetExists, "D/1": TargetExists, "../x": BadName}
    assert len(dot_files(folder)) == 3
    for file in files:
        file.discard()
    assert dot_files(folder) == []
    assert (folder.root / "d/2").read_bytes() == b"d/2"
    assert outcomes[0] == folder.fingerprint("d/1")


class FolderGoes(Disk):
    """A disk that removes the empty folder "d" just before the first file is linked into it."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.gone = False

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        if not self.gone:
            self.gone = True
            (self.root / "d").rmdir()
        super().link(source, target, source_fd=source_fd, target_fd=target_fd)


def test_a_folder_removed_during_a_batch_is_created_again(tmp_path: Path) -> None:
    folder = SharedFolder(tmp_path / "shared", FolderGoes(tmp_path / "shared"))
    store = TempFiles(folder)
    files = [store.write(b"%d" % number, folder.volumes.main) for number in range(3)]
    outcomes = folder.publish_many([file.named(f"d/{number}") for number, file in enumerate(files)])
    assert outcomes == [folder.fingerprint(f"d/{number}") for number in range(3)]
    assert dot_files(folder) == []
    folder.close()


# ----------------------------------------------------------------------------------------------------------- removing


def test_removing_a_file_removes_the_folders_it_leaves_empty(folder: SharedFolder) -> None:
    put(folder, "a/b/c", b"x")
    put(folder, "a/d", b"x")
    fingerprint = folder.fingerprint("a/b/c")
    assert fingerprint is not None
    assert folder.remove([UnwantedFile("a/b/c", fingerprint)]) == [None]
    assert sorted(os.listdir(folder.root)) == [".p2p", "a"]
    assert os.listdir(folder.root / "a") == ["d"]
    (error,) = folder.remove([UnwantedFile("a/b/c", fingerprint)])
    assert type(error) is NoSuchFile


def test_a_changed_file_is_not_removed(folder: SharedFolder) -> None:
    put(folder, "a", b"old")
    fingerprint = folder.fingerprint("a")
    assert fingerprint is not None
    put(folder, "a", b"newer")
    (error,) = folder.remove([UnwantedFile("a", fingerprint)])
    assert isinstance(error, FileChanged)
    assert (folder.root / "a").read_bytes() == b"newer"


def operations_to_remove(path: Path, files: int) -> int:
    """Return how many operations of the disk the removal of files in ten folders takes."""
    disk = CountingDisk()
    folder = SharedFolder(path, disk)
    names = [f"{number % 10}/{number}" for number in range(files)]
    for name in names:
        put(folder, name, b"x")
    found = [(name, folder.fingerprint(name)) for name in sorted(names)]
    unwanted = [UnwantedFile(name, fingerprint) for name, fingerprint in found if fingerprint is not None]
    disk.arm()
    assert folder.remove(unwanted) == [None] * files
    folder.close()
    assert sorted(os.listdir(path)) == [".p2p"]
    return disk.count


def test_files_are_removed_together_with_one_sync_for_all(tmp_path: Path) -> None:
    few, many = operations_to_remove(tmp_path / "few", 100), operations_to_remove(tmp_path / "many", 400)
    # One stat and one unlink for each file; the rest is for the folders.
    assert many - few == 2 * 300


def test_a_removal_stops_between_two_files(folder: SharedFolder) -> None:
    fingerprints = []
    for name in ("a", "b", "c"):
        put(folder, name, b"x")
        fingerprint = folder.fingerprint(name)
        assert fingerprint is not None
        fingerprints.append(UnwantedFile(name, fingerprint))
    asked = iter([False, False, True])
    assert folder.remove(fingerprints, stop=lambda: next(asked)) == [None, None]
    assert sorted(os.listdir(folder.root)) == [".p2p", "c"]


def test_only_a_path_inside_the_folder_has_a_name(folder: SharedFolder, tmp_path: Path) -> None:
    put(folder, "a/b", b"")
    (tmp_path / "way").symlink_to(folder.root)
    assert folder.name_of(folder.root / "a" / "b") == "a/b"
    assert folder.name_of(tmp_path / "way" / "a" / "b") == "a/b"
    assert folder.name_of(tmp_path / "elsewhere") is None
    with pytest.raises(BadName):
        folder.name_of(folder.root / ".hidden")


def test_a_link_with_the_name_of_the_dot_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / ".p2p").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageFault):
        SharedFolder(tmp_path / "shared")
