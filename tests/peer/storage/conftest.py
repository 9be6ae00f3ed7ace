"""A real shared folder with its manifest cache, library and scanner, in a folder for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.shared_folder import SharedFolder
from manual_clock import ManualUnixClock


@pytest.fixture
def clock() -> ManualUnixClock:
    return ManualUnixClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def folder(root: Path) -> Iterator[SharedFolder]:
    folder = SharedFolder(root)
    yield folder
    folder.close()


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder of a file system that stores files of any size and time."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a /dev/shm to write to")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def cache(tmp_path: Path, clock: ManualUnixClock) -> Iterator[ManifestCache]:
    cache = ManifestCache(tmp_path / "cache.sqlite", clock())
    yield cache
    cache.close()


@pytest.fixture
def library(cache: ManifestCache) -> Library:
    return Library(cache)


@pytest.fixture
def scanner(folder: SharedFolder, cache: ManifestCache, library: Library, clock: ManualUnixClock) -> Scanner:
    return Scanner(folder, cache, library, clock=clock)
