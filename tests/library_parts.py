"""Parts of the library, put together as `daemon.app` does."""

from __future__ import annotations

from collections.abc import Callable

from daemon.library.confirmer import Confirmer
from daemon.library.file_hasher import FileHasher
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.shared_folder import SharedFolder


def make_confirmer(
    folder: SharedFolder,
    cache: ManifestCache,
    library: Library,
    *,
    clock: Callable[[], float],
    on_hashed: Callable[[int], object] = lambda _: None,
) -> Confirmer:
    """Return what confirms the files of `library`."""
    hasher = FileHasher(folder, on_hashed=on_hashed)
    return Confirmer(hasher=hasher, manifest_cache=cache, library=library, clock=clock)


def make_scanner(
    folder: SharedFolder, cache: ManifestCache, library: Library, *, clock: Callable[[], float]
) -> Scanner:
    """Return what scans `folder` for `library`."""
    confirmer = make_confirmer(folder, cache, library, clock=clock)
    return Scanner(folder, cache, library, hasher=confirmer.hasher, confirmer=confirmer, clock=clock)
