"""A small file that is not here yet, and who may be asked for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from daemon.errors import PeerError
from daemon.models import Holder, RemoteFile


@dataclass(slots=True, eq=False)
class MissingFile:
    """A file that is not here yet."""

    file: RemoteFile
    # Holders that may still be asked.
    holders: dict[str, Holder] = field(default_factory=dict)
    # Those that were asked and did not do, and why the last one did not.
    failed: set[str] = field(default_factory=set)
    fault: PeerError | None = None
    # Holders that sent something else, and when the last of them did.
    corrupt_holders: set[str] = field(default_factory=set)
    last_corrupt: float = 0.0
    # Somebody says that it is no small file.
    large: bool = False

    def __post_init__(self) -> None:
        self.update_holders(self.file.holders)

    def update_holders(self, holders: Iterable[Holder]) -> None:
        """Take these holders, but for liars; those that failed only when nobody else is left."""
        whole = {
            holder.address: holder
            for holder in holders
            if holder.complete and holder.address not in self.corrupt_holders
        }
        self.holders = {url: holder for url, holder in whole.items() if url not in self.failed}
        if not self.holders:
            self.holders = whole
            self.failed.clear()

    def exclude_holder(self, url: str) -> None:
        """This holder did not do."""
        if self.holders.pop(url, None) is not None:
            self.failed.add(url)
