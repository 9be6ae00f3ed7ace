"""One download order: where what it fetches goes, and the transfer that is told of it. Fetches and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import BadUsage, PeerError
from daemon.models import HeldVersion
from daemon.runtime.events import Fault
from daemon.runtime.transfers import Transfer
from daemon.storage.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order. Made by `of`."""

    transfer: Transfer
    # Another name in the shared folder; "" leaves each file its own.
    rename: str
    # Where copies outside go, a folder or the copy itself; None: no copies.
    path: Path | None
    into_folder: bool
    clock: Callable[[], float]
    began: float

    @classmethod
    def of(cls, output: str, transfer: Transfer, clock: Callable[[], float], *, several: bool) -> Order:
        """Read what the user gave as output: nothing, another name, or a path outside. Looks at what lies there.

        Raises:
            BadUsage, BadName: if it cannot be so.
        """
        rename = output if "/" not in output else ""
        path = Path(output) if "/" in output else None
        if path is not None and not path.is_absolute():
            raise BadUsage("a path for a copy outside the shared folder is an absolute one")
        if several and rename:
            raise BadUsage(f"another name is for one file: write {output}/ to copy several into it")
        if rename:
            check_name(rename)
        into_folder = path is not None and (several or output.endswith("/") or os.path.isdir(output))
        return cls(transfer=transfer, rename=rename, path=path, into_folder=into_folder, clock=clock, began=clock())

    def name(self, item: HeldVersion) -> str:
        """Return the name that a version gets here."""
        return self.rename or item.version.name

    def outside(self, name: str) -> Path | None:
        """Return where the copy outside goes of what has this name here; None if there is to be none."""
        if self.path is None or not self.into_folder:
            return self.path
        return self.path / name

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self.clock() - self.began

    def failed(self, item: HeldVersion, error: PeerError) -> None:
        """Tell that a version cannot be had."""
        self.transfer.tell(Fault.of(error, item.version.name))
