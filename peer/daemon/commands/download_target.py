"""One download order: where what it fetches goes, and the transfer that is told of it. Fetches and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.control_messages import Fault
from daemon.errors import BadUsage, PeerError
from daemon.models import RemoteFile
from daemon.runtime.transfers import Transfer
from daemon.storage.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadTarget:
    """An order. Made by `of`."""

    transfer: Transfer
    # Another name in the shared folder; "" leaves each file its own.
    new_name: str
    # Where copies outside go, a folder or the copy itself; None: no copies.
    copy_path: Path | None
    copy_into_folder: bool
    clock: Callable[[], float]
    started: float

    @classmethod
    def parse(cls, output: str, transfer: Transfer, clock: Callable[[], float], *, multiple: bool) -> DownloadTarget:
        """Read what the user gave as output: nothing, another name, or a path outside. Looks at what lies there.

        Raises:
            BadUsage, BadName: if it cannot be so.
        """
        new_name = output if "/" not in output else ""
        path = Path(output) if "/" in output else None
        if path is not None and not path.is_absolute():
            raise BadUsage("a path for a copy outside the shared folder is an absolute one")
        if multiple and new_name:
            raise BadUsage(f"another name is for one file: write {output}/ to copy several into it")
        if new_name:
            check_name(new_name)
        into_folder = path is not None and (multiple or output.endswith("/") or os.path.isdir(output))
        return cls(
            transfer=transfer,
            new_name=new_name,
            copy_path=path,
            copy_into_folder=into_folder,
            clock=clock,
            started=clock(),
        )

    def local_name(self, item: RemoteFile) -> str:
        """Return the name that a version gets here."""
        return self.new_name or item.version.name

    def copy_path_of(self, local_name: str) -> Path | None:
        """Return where the copy outside goes of what has this name here; None if there is to be none."""
        if self.copy_path is None or not self.copy_into_folder:
            return self.copy_path
        return self.copy_path / local_name

    @property
    def elapsed(self) -> float:
        """How long it has taken so far."""
        return self.clock() - self.started

    def report_fault(self, item: RemoteFile, error: PeerError) -> None:
        """Tell that a version cannot be had."""
        self.transfer.emit(Fault.of(error, item.version.name))
