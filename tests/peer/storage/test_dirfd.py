"""Claims about CachedDirFd: it opens a folder once for consecutive names in it, and leaks nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import NoSuchFile
from daemon.storage.dirfd import CachedDirFd, open_folder
from daemon.storage.disk import Disk


class Opener:
    """Opens folders below a root, and records each call."""

    def __init__(self, root: Path) -> None:
        self.root = os.open(root, os.O_RDONLY)
        self.opened: list[tuple[str, ...]] = []

    def __call__(self, path: tuple[str, ...]) -> int:
        self.opened.append(path)
        return open_folder(Disk(), self.root, path)


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    made = Opener(tmp_path)
    yield made
    os.close(made.root)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_cached_folder_is_opened_once(opener: Opener, tmp_path: Path) -> None:
    with CachedDirFd(opener) as last:
        for path in [("a", "b"), ("a", "b"), ("c",), ("c",), (), ()]:
            assert os.path.samestat(os.fstat(last.get(path)), tmp_path.joinpath(*path).stat())
    assert opener.opened == [("a", "b"), ("c",), ()]


def test_a_missing_folder_is_looked_up_once(opener: Opener) -> None:
    with CachedDirFd(opener) as last:
        for path in [("no",), ("no",), ("a",), ("no",)]:
            if path == ("a",):
                last.get(path)
            else:
                with pytest.raises(NoSuchFile):
                    last.get(path)
    assert opener.opened == [("no",), ("a",), ("no",)]


def test_a_folder_is_opened_again_after_a_disk_error(opener: Opener) -> None:
    failures = [OSError(5, "Input/output error")]

    def once(path: tuple[str, ...]) -> int:
        if failures:
            raise failures.pop()
        return opener(path)

    with CachedDirFd(once) as last:
        with pytest.raises(OSError, match="Input/output"):
            last.get(("a",))
        last.get(("a",))
    assert opener.opened == [("a",)]


def test_an_invalidated_folder_is_opened_again(opener: Opener) -> None:
    with CachedDirFd(opener) as last:
        last.get(("a",))
        last.invalidate()
        last.get(("a",))
    assert opener.opened == [("a",)] * 2


def test_the_cache_leaks_no_descriptor(opener: Opener) -> None:
    before = descriptors()
    with CachedDirFd(opener) as last:
        for path in [("a",), ("no",), ("a", "b"), ()]:
            try:
                last.get(path)
            except NoSuchFile:
                continue
        last.invalidate()
        last.get(("c",))
    assert descriptors() == before
