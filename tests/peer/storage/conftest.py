"""A real shared folder with its manifest cache, library and scanner, in a folder for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.shared_folder import SharedFolder
from library_parts import make_scanner
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
def cache(tmp_path: Path, clock: ManualUnixClock) -> Iterator[ManifestCache]:
    cache = ManifestCache(tmp_path / "cache.sqlite", clock())
    yield cache
    cache.close()


@pytest.fixture
def library(cache: ManifestCache) -> Library:
    return Library(cache)


@pytest.fixture
def scanner(folder: SharedFolder, cache: ManifestCache, library: Library, clock: ManualUnixClock) -> Scanner:
    return make_scanner(folder, cache, library, clock=clock)
