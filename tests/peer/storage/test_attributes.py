"""The time of modification and the executable bit of files on disk, and what other programs may send as a time."""

import errno
import math
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import StorageFault, TargetExists
from daemon.library.library import Library
from daemon.models import NO_ATTRIBUTES, Attributes
from daemon.runtime.settings import DEFAULT_PART_KEEP
from daemon.storage import attributes as on_disk
from daemon.storage.attributes import MODIFIED_MAX, attributes_of, known_modified
from daemon.storage.dirfd import TEMP_SUFFIX
from daemon.storage.disk import Disk
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.part_file import PartStore
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.transfer.batch_store import BatchStore, SmallFile
from swarm_files import manifest_of

OLD = 981_173_106.123456
SCRIPT = Attributes(OLD, executable=True)
DATA = bytes(range(256)) * 4096 * 2


@pytest.fixture
def umask() -> object:
    before = os.umask(0o027)
    yield
    os.umask(before)


class LackingDisk(Disk):
    """A disk of a file system that has neither times nor permissions, or that fails."""

    def __init__(self, error: int) -> None:
        super().__init__()
        self._error = error

    def chmod(self, fd: int, mode: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(self._error, os.strerror(self._error))
        super().chmod(fd, mode)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        raise OSError(self._error, os.strerror(self._error))


class WatchingDisk(Disk):
    """A disk that records the status of each file at the moment when it gets its name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, os.stat_result] = {}

    def rename_new(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        super().rename_new(source, target, source_fd=source_fd, target_fd=target_fd)
        # The other names are those of files with which a volume is tried.
        if not target.endswith(TEMP_SUFFIX):
            self.seen[target] = os.stat(target, dir_fd=target_fd)


def attributes(status: os.stat_result) -> Attributes:
    return attributes_of(Fingerprint.from_stat(status))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def publish_large(folder: SharedFolder, name: str, of_name: Attributes) -> Fingerprint:
    manifest = manifest_of(DATA)
    with PartStore(folder).open(manifest, name) as part:
        for piece in range(manifest.piece_count):
            at = manifest.offset(piece)
            part.store(piece, [DATA[at : at + manifest.length(piece)]])
        return part.publish(name, of_name)


def publish_small(folder: SharedFolder, library: Library, name: str, of_name: Attributes) -> None:
    file = SmallFile(name, manifest_of(b"small"), b"small", of_name)
    assert BatchStore(folder, TempFiles(folder), library).publish([file]) == [None]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("executable", [True, False])
def test_files_have_their_attributes_when_they_get_their_names(root: Path, library: Library, executable: bool) -> None:
    disk = WatchingDisk()
    folder = SharedFolder(root, disk)
    of_name = Attributes(OLD, executable)
    fingerprint = publish_large(folder, "large", of_name)
    publish_small(folder, library, "small", of_name)
    assert {name: attributes(status) for name, status in disk.seen.items()} == dict.fromkeys(
        ["large", "small"], of_name
    )
    assert fingerprint == folder.fingerprint("large")
    assert mode(root / "large") == mode(root / "small") == (0o750 if executable else 0o640)
    small = library.by_name("small")
    assert small is not None and small.fingerprint == folder.fingerprint("small")
    assert small.version.attributes == of_name
    folder.close()


def test_an_unknown_time_is_the_present(folder: SharedFolder, library: Library, root: Path, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    publish_large(folder, "large", NO_ATTRIBUTES)
    publish_small(folder, library, "small", Attributes(None, executable=True))
    for name in ("large", "small"):
        assert (root / name).stat().st_mtime >= (tmp_path / "now").stat().st_mtime - 1
    assert mode(root / "small") & 0o100 and not mode(root / "large") & 0o100


@pytest.mark.parametrize("error", [errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.EOVERFLOW])
def test_a_file_system_without_attributes_is_no_error(root: Path, library: Library, error: int) -> None:
    folder = SharedFolder(root, LackingDisk(error))
    publish_large(folder, "large", SCRIPT)
    publish_small(folder, library, "small", SCRIPT)
    assert (root / "large").read_bytes() == DATA and (root / "small").read_bytes() == b"small"
    folder.close()


def test_a_failing_disk_is_an_error_and_nothing_gets_its_name(root: Path, library: Library) -> None:
    folder = SharedFolder(root, LackingDisk(errno.EIO))
    with pytest.raises(StorageFault):
        publish_large(folder, "large", SCRIPT)
    with pytest.raises(StorageFault):
        publish_small(folder, library, "small", SCRIPT)
    assert [path.name for path in root.iterdir()] == [".p2p"]
    folder.close()


def test_a_refused_name_leaves_no_executable_bit_for_the_next_one(folder: SharedFolder, root: Path) -> None:
    (root / "taken").write_bytes(b"mine")
    os.chmod(root / "taken", 0o600)
    manifest = manifest_of(DATA)
    with PartStore(folder).open(manifest, "taken") as part:
        for piece in range(manifest.piece_count):
            at = manifest.offset(piece)
            part.store(piece, [DATA[at : at + manifest.length(piece)]])
        with pytest.raises(TargetExists):
            part.publish("taken", SCRIPT)
        assert mode(root / "taken") == 0o600
        part.publish("free", Attributes(OLD))
    assert mode(root / "free") & 0o111 == 0


def test_a_complete_part_with_an_old_time_is_not_cleaned_up(folder: SharedFolder, root: Path) -> None:
    """A pserver that is killed between the two steps of a publication downloads nothing again."""
    store = PartStore(folder)
    with store.open(manifest_of(DATA), "large"):
        pass
    (part,) = (root / ".p2p").glob("*.part")
    os.utime(part, (OLD, OLD))
    now = part.stat().st_ctime
    store.clean_up(now + DEFAULT_PART_KEEP - 60)
    assert part.exists()
    store.clean_up(now + DEFAULT_PART_KEEP + 60)
    assert not part.exists()


@pytest.mark.parametrize(
    ("source", "copy"), [(0o600, 0o600), (0o755, 0o755), (0o4755, 0o755), (0o444, 0o444), (0o040, 0o440)]
)
def test_a_copy_keeps_permissions_and_time_and_no_special_bit(
    folder: SharedFolder, root: Path, tmp_path: Path, source: int, copy: int
) -> None:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    os.chmod(path, source)
    os.utime(path, ns=(1, 981_173_106_123_456_789))
    with (
        path.open("rb", buffering=0) as file,
        TempFiles(folder).copy_in(file.fileno(), folder.volumes.main) as temporary,
    ):
        fingerprint = temporary.publish("copy")
    assert mode(root / "copy") == copy
    assert (root / "copy").stat().st_mtime_ns == 981_173_106_123_456_789
    assert fingerprint == folder.fingerprint("copy")


@given(mtime_ns=st.integers(0, int(MODIFIED_MAX) * 10**9))
def test_a_time_that_is_set_is_announced_as_the_same_number(mtime_ns: int) -> None:
    """Otherwise each copy of a copy would announce another time."""
    announced = attributes_of(Fingerprint(1, 2, 3, mtime_ns, 5)).modified
    assert announced is not None

    class RecordingDisk(Disk):
        def set_mtime(self, fd: int, mtime_ns: int) -> None:
            assert attributes_of(Fingerprint(1, 2, 3, mtime_ns, 5)).modified == announced

    on_disk.set_modified(RecordingDisk(), 0, Attributes(announced))
    assert abs(announced - mtime_ns / 1e9) < 1e-6


def test_a_file_system_that_may_show_one_mode_for_all_files_says_nothing_of_the_executable_bit(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o755)
    status = (tmp_path / "file").stat()
    assert attributes_of(Fingerprint.from_stat(status)).executable is True
    # The name is given where inode numbers are not stable: FAT, exFAT and FUSE.
    assert attributes_of(Fingerprint.from_stat(status, "file")).executable is None


def test_a_time_before_1970_is_not_announced() -> None:
    assert attributes_of(Fingerprint(1, 2, 3, -1, 5)) == NO_ATTRIBUTES


@pytest.mark.parametrize(
    "value",
    [None, -1, -0.001, math.nan, math.inf, -math.inf, True, "1", [1], MODIFIED_MAX + 1, 1e300, 10**400],
    ids=lambda value: repr(value)[:20],
)
def test_an_impossible_time_is_unknown(value: object) -> None:
    assert known_modified(value) is None


def test_a_possible_time_is_known_up_to_the_latest() -> None:
    assert [known_modified(value) for value in (0, 5, OLD, MODIFIED_MAX)] == [0.0, 5.0, OLD, MODIFIED_MAX]
    assert known_modified(100.5, 100.5) == 100.5
    assert known_modified(100.6, 100.5) is None
