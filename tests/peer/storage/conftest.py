"""A shared folder, what remembers it and what looks through it, all real, in a folder of their own."""

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
    """A folder of a file system that takes files of any size and time."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a /dev/shm to write to")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def catalog(tmp_path: Path, clock: ManualUnixClock) -> Iterator[ManifestCache]:
    catalog = ManifestCache(tmp_path / "catalog.sqlite", clock())
    yield catalog
    catalog.close()


@pytest.fixture
def library(catalog: ManifestCache) -> Library:
    return Library(catalog)


@pytest.fixture
def scanner(folder: SharedFolder, catalog: ManifestCache, library: Library, clock: ManualUnixClock) -> Scanner:
    return Scanner(folder, catalog, library, clock=clock)
