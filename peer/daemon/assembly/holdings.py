"""What holds files put together."""

from __future__ import annotations

from daemon.assembly.ground import Ground
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.offer_checker import OfferChecker
from daemon.library.scanner import Scanner
from daemon.storage.disk import Disk
from daemon.storage.part_file import PartStore
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.transfer.replica_quota import ReplicaQuota
from daemon.transfer.sources import ServedFiles


class Holdings:
    """What holds files, whole and unfinished."""

    def __init__(self, ground: Ground, disk: Disk | None) -> None:
        settings = ground.settings
        self.folder = SharedFolder(settings.shared_dir, disk)
        self.catalog = ManifestCache(settings.state_dir / "catalog.db", ground.calendar())
        self.library = Library(self.catalog)
        self.scanner = Scanner(self.folder, self.catalog, self.library, clock=ground.calendar)
        self.claims = OfferChecker(
            folder=self.folder, manifest_cache=self.catalog, library=self.library, scanner=self.scanner
        )
        self.parts = PartStore(self.folder)
        self.temporaries = TempFiles(self.folder)
        self.sharing = ServedFiles(self.library, self.folder)
        quota = settings.quota if settings.quota is not None else self.folder.free_bytes() // 10
        self.keeping = ReplicaQuota(self.catalog, quota, ground.threads)
