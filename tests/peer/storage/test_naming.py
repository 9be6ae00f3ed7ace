"""Claims about names on file systems that lack operations: nothing is replaced, and what cannot work is known early."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import StorageFault, TargetExists
from daemon.storage.clean_up import clean_up
from daemon.storage.outside_copy import OutsideCopies
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from failing_disk import LACKS, CountingDisk, LackingDisk


@pytest.fixture(params=LACKS)
def naming(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(root: Path, naming: str) -> Iterator[SharedFolder]:
    folder = SharedFolder(root, LackingDisk(LACKS[naming]))
    yield folder
    folder.close()


def publish(folder: SharedFolder, name: str, data: bytes) -> None:
    with TempFiles(folder).write(data, folder.volume_for(name)) as temporary:
        fingerprint = temporary.publish(name)
    assert fingerprint == folder.fingerprint(name)


def test_a_file_gets_its_name_and_leaves_no_other(folder: SharedFolder, root: Path) -> None:
    publish(folder, "new/folder/file", b"contents")
    assert (root / "new/folder/file").read_bytes() == b"contents"
    assert (root / "new/folder/file").stat().st_nlink == 1
    assert os.listdir(root / ".p2p") == []


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_file_is_never_replaced(folder: SharedFolder, root: Path, content: bytes) -> None:
    (root / "taken").write_bytes(content)
    with pytest.raises(TargetExists):
        publish(folder, "taken", b"theirs")
    assert (root / "taken").read_bytes() == content
    assert os.listdir(root / ".p2p") == []


class Racing(LackingDisk):
    """A disk on which another program creates the file "contested" just before an operation."""

    def __init__(self, lacks: tuple[str, ...], create: Callable[[], object]) -> None:
        super().__init__(lacks)
        self._create = create

    def rename_new(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        self._race(target)
        super().rename_new(source, target, source_fd=source_fd, target_fd=target_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        self._race(target)
        super().link(source, target, source_fd=source_fd, target_fd=target_fd)

    def open(self, path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        if flags & os.O_EXCL:
            self._race(path)
        return super().open(path, flags, mode=mode, dir_fd=dir_fd)

    def _race(self, name: str) -> None:
        if name == "contested":
            self._create()


@pytest.mark.parametrize("content", [b"mine", b""])
def test_a_file_that_another_program_creates_meanwhile_is_never_replaced(
    root: Path, naming: str, content: bytes
) -> None:
    disk = Racing(LACKS[naming], lambda: (root / "contested").write_bytes(content))
    folder = SharedFolder(root, disk)
    with pytest.raises(TargetExists):
        publish(folder, "contested", b"theirs")
    assert (root / "contested").read_bytes() == content
    with folder.opened() as opened, folder.volumes.main.dot as dot:
        clean_up(disk, opened, dot, 0)
    assert (root / "contested").read_bytes() == content
    assert os.listdir(root / ".p2p") == []
    folder.close()


def test_a_reserved_name_that_another_program_writes_to_is_its_own(root: Path) -> None:
    class WritesBeforeRename(LackingDisk):
        def stat(self, path: str, *, dir_fd: int) -> os.stat_result:
            if path == "contested":
                (root / "contested").write_bytes(b"mine")
            return super().stat(path, dir_fd=dir_fd)

    folder = SharedFolder(root, WritesBeforeRename(LACKS["reserve"]))
    with pytest.raises(TargetExists):
        publish(folder, "contested", b"theirs")
    assert (root / "contested").read_bytes() == b"mine"
    folder.close()


def test_one_of_many_threads_gets_a_contested_name(folder: SharedFolder, root: Path) -> None:
    won: list[int] = []

    def compete(number: int) -> None:
        try:
            publish(folder, "One" if number % 2 else "one", b"%d" % number)
        except TargetExists:
            return
        won.append(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [path.read_bytes() for path in root.iterdir() if path.is_file()] == [b"%d" % won[0]]
    assert list((root / ".p2p").iterdir()) == []


def test_a_file_system_that_can_neither_link_nor_rename_is_refused_before_a_file_is_written(root: Path) -> None:
    folder = SharedFolder(root, LackingDisk(("rename_new", "link", "rename")))
    with pytest.raises(StorageFault, match="neither link nor rename"):
        folder.volume_for("file")
    assert os.listdir(root) == [".p2p"]
    assert os.listdir(root / ".p2p") == []
    folder.close()


def test_a_file_system_is_tried_once(root: Path) -> None:
    disk = CountingDisk(LACKS["reserve"])
    folder = SharedFolder(root, disk)
    folder.volume_for("first")
    disk.arm()
    for fault in folder.target_faults([f"folder/{number}" for number in range(1000)]):
        assert fault is None
    assert disk.count < 50
    folder.close()


@pytest.mark.parametrize("name", ["what?", "folder/a*b", 'say "so"/file', "a|b"])
def test_a_name_that_the_file_system_cannot_store_is_refused_before_a_file_is_written(root: Path, name: str) -> None:
    folder = SharedFolder(root, LackingDisk(("characters",)))
    fault, other = folder.target_faults([name, "plain"])
    assert isinstance(fault, StorageFault)
    assert "cannot store" in fault.message
    assert other is None
    assert os.listdir(root / ".p2p") == []
    folder.close()


def test_unusual_characters_are_stored_where_they_can_be(root: Path, folder: SharedFolder) -> None:
    publish(folder, 'what? a*b "c" <d>|', b"x")
    assert (root / 'what? a*b "c" <d>|').read_bytes() == b"x"


class Divided(LackingDisk):
    """A disk that does not rename files into or out of folders with a marker, as quota projects do."""

    def rename_new(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        if ("marker" in os.listdir(source_fd)) != ("marker" in os.listdir(target_fd)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        super().rename_new(source, target, source_fd=source_fd, target_fd=target_fd)

    def mkdir(self, path: str, *, mode: int = 0o755, dir_fd: int) -> None:
        super().mkdir(path, mode=mode, dir_fd=dir_fd)
        if "marker" in os.listdir(dir_fd):
            new = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
            os.close(os.open("marker", os.O_CREAT | os.O_WRONLY, dir_fd=new))
            os.close(new)


def test_a_boundary_that_nothing_reports_is_learnt_from_the_first_refusal(root: Path) -> None:
    folder = SharedFolder(root, Divided())
    (root / "project").mkdir()
    (root / "project" / "marker").write_bytes(b"")
    with pytest.raises(StorageFault, match="the next try"):
        publish(folder, "project/deep/file", b"x")
    assert os.listdir(root / ".p2p") == []
    for name in ("project/deep/file", "project/other", "file"):
        publish(folder, name, b"x")
        assert (root / name).read_bytes() == b"x"
    assert sorted(os.listdir(root / "project")) == [".p2p", "deep", "marker", "other"]
    folder.close()


# ------------------------------------------------------------------------------------------------------ copies outside


def write_copy(copies: OutsideCopies, path: Path) -> None:
    with copies.create(path, make_folders=False) as copy:
        os.write(copy.fd, b"contents")
        copy.publish()


def test_a_copy_outside_gets_its_name_and_replaces_nothing(tmp_path: Path, naming: str) -> None:
    copies = OutsideCopies(LackingDisk(LACKS[naming]))
    copies.check_target(tmp_path / "new", make_folders=False)
    write_copy(copies, tmp_path / "new")
    with pytest.raises(TargetExists):
        copies.check_target(tmp_path / "new", make_folders=False)
    with pytest.raises(TargetExists):
        write_copy(copies, tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"contents"
    assert os.listdir(tmp_path) == ["new"]


def test_a_target_outside_that_cannot_work_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    copies = OutsideCopies(LackingDisk(("rename_new", "link", "rename")))
    with pytest.raises(StorageFault, match="neither link nor rename"):
        copies.check_target(tmp_path / "missing" / "folder" / "new", make_folders=True)
    copies = OutsideCopies(LackingDisk(("characters",)))
    with pytest.raises(StorageFault, match="cannot store"):
        copies.check_target(tmp_path / "what?" / "new", make_folders=True)
    assert os.listdir(tmp_path) == []
