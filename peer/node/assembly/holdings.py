"""What holds files put together."""

from __future__ import annotations

from node.assembly.ground import Ground
from node.catalog import Catalog
from node.disk import Disk
from node.library import Library
from node.parts import PartStore
from node.receiver import Keeping
from node.scanner import Scanner
from node.shared_folder import SharedFolder
from node.sharing import Sharing
from node.temporaries import Temporaries


class Holdings:
    """What holds files, whole and unfinished."""

    def __init__(self, ground: Ground, disk: Disk | None) -> None:
        settings = ground.settings
        self.folder = SharedFolder(settings.shared_dir, disk)
        self.catalog = Catalog(settings.state_dir / "catalog.db", ground.calendar())
        self.library = Library(self.catalog)
        self.scanner = Scanner(self.folder, self.catalog, self.library, clock=ground.calendar)
        self.parts = PartStore(self.folder)
        self.temporaries = Temporaries(self.folder)
        self.sharing = Sharing(self.library, self.folder)
        quota = settings.quota if settings.quota is not None else self.folder.free_bytes() // 10
        self.keeping = Keeping(self.catalog, quota)
