"""What holds files put together."""

from __future__ import annotations

from node.assembly.ground import Ground
from node.files.disk import Disk
from node.files.parts import PartStore
from node.files.shared_folder import SharedFolder
from node.files.temporaries import Temporaries
from node.holdings.catalog import Catalog
from node.holdings.claims import Claims
from node.holdings.library import Library
from node.holdings.scanner import Scanner
from node.moving.keeping import Keeping
from node.moving.sharing import Sharing


class Holdings:
    """What holds files, whole and unfinished."""

    def __init__(self, ground: Ground, disk: Disk | None) -> None:
        settings = ground.settings
        self.folder = SharedFolder(settings.shared_dir, disk)
        self.catalog = Catalog(settings.state_dir / "catalog.db", ground.calendar())
        self.library = Library(self.catalog)
        self.scanner = Scanner(self.folder, self.catalog, self.library, clock=ground.calendar)
        self.claims = Claims(folder=self.folder, catalog=self.catalog, library=self.library, scanner=self.scanner)
        self.parts = PartStore(self.folder)
        self.temporaries = Temporaries(self.folder)
        self.sharing = Sharing(self.library, self.folder)
        quota = settings.quota if settings.quota is not None else self.folder.free_bytes() // 10
        self.keeping = Keeping(self.catalog, quota, ground.threads)
