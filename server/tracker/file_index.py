"""Names, ids and their holders, in both directions. Knows neither time nor locks: memory_index.py has both."""

from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest
from typing import NamedTuple

from tracker.index_entries import (
    COMPLETE,
    PARTIAL,
    ContentEntry,
    NameEntry,
    PeerFiles,
    Spellings,
    group_spellings,
    is_complete,
)
from tracker.models import IndexEntry
from tracker.name_index import DEADLINE_CHECK_INTERVAL, NameIndex
from tracker.names import fold

# Content with more holders than these is not scanned: some of them are complete, or will be soon.
_MAX_COUNTED_HOLDERS = 20


class SingleCopyScan(NamedTuple):
    """Result of find_single_copies.

    Attributes:
        contents: ids that exactly one peer has complete.
        total_size: bytes of all content, each id once.
        versions: the first versions of those ids, in order of folded name and id.
        more: whether there may be more versions.
    """

    contents: int
    total_size: int
    versions: list[Spellings]
    more: bool


class FileIndex:
    """All content and names of online peers. Not thread-safe."""

    def __init__(self) -> None:
        self.by_id: dict[bytes, ContentEntry] = {}
        self.names = NameIndex()
        # Pairs of content and holder.
        self.entry_count = 0

    def add_files(self, peer: PeerFiles, files: Iterable[IndexEntry], folded_names: Mapping[str, str]) -> None:
        """Add files to a peer; each replaces what the peer has under its name.

        One loop without calls per file: it has to add 200,000 files a second.

        Args:
            peer: the peer.
            files: what it announces.
            folded_names: folded form of the names that are not ASCII.
        """
        by_id, peer_files, partial = self.by_id, peer.files, peer.partial
        for name, file_id, size, complete, modified, executable in files:
            content = by_id.get(file_id)
            entry = content.names.get(name) if content is not None else None
            folded = entry.folded if entry is not None else folded_names.get(name) or fold(name)
            if folded in peer_files:
                self.remove_file(peer, folded)
                # Its last entry is gone, and perhaps the content with it.
                content = by_id.get(file_id)
                entry = content.names.get(name) if content is not None else None
            if content is None:
                content = by_id[file_id] = ContentEntry(file_id, size)
            if entry is None:
                # Nearly every name is equal to its folded form: one string serves as both.
                folded = name if folded == name else folded
                entry = content.names[name] = NameEntry(name, folded, content, modified, executable)
                self.names.add(entry)
            elif modified != entry.modified or executable != entry.executable:
                entry.add_disputed(peer, modified, executable)
            entry.peer_count += 1
            peer_files[entry.folded] = entry
            held = content.holders.get(peer, 0)
            if not held:
                self.entry_count += 1
            if complete:
                content.holders[peer] = held + COMPLETE
            else:
                content.holders[peer] = held + PARTIAL
                partial.add(entry)
            if size != content.size or content.disputed_sizes is not None:
                content.add_disputed_size(peer, size)

    def remove_file(self, peer: PeerFiles, folded: str) -> None:
        """Remove what a peer has under a folded name."""
        entry = peer.files.pop(folded)
        content = entry.content
        count = content.holders[peer]
        if entry in peer.partial:
            peer.partial.discard(entry)
            count -= PARTIAL
        else:
            count -= COMPLETE
        if count:
            content.holders[peer] = count
        else:
            del content.holders[peer]
            self.entry_count -= 1
            if content.disputed_sizes is not None:
                content.drop_disputed_size(peer)
        if entry.disputed_modified is not None or entry.disputed_executable is not None:
            entry.drop_disputed(peer)
        entry.peer_count -= 1
        if not entry.peer_count:
            del content.names[entry.name]
            self.names.remove(entry)
        if not content.holders:
            del self.by_id[content.id]


def _has_one_complete(counts: tuple[int, ...]) -> bool:
    complete = 0
    for count in counts:
        if is_complete(count):
            complete += 1
            # Nearly all content has two complete holders among its first.
            if complete == 2:
                return False
    return complete == 1


def find_single_copies(
    contents: Iterable[ContentEntry], matches: Callable[[str], bool] | None, limit: int, timed_out: Callable[[], bool]
) -> SingleCopyScan:
    """Find what exactly one peer has complete.

    Needs no lock: `tuple(view)` is atomic under the GIL. The entries of the result may have changed since.

    Args:
        contents: a copy of all content.
        matches: which folded names to return; None for all.
        limit: versions to return.
        timed_out: whether the search has to stop; names not checked by then count as more.
    """
    size = count = 0
    found: list[Spellings] = []
    checked = 0
    stopped = False
    for content in contents:
        size += content.size
        if len(content.holders) <= _MAX_COUNTED_HOLDERS and _has_one_complete(tuple(content.holders.values())):
            count += 1
            entries = () if stopped else tuple(content.names.values())
            versions = (entries,) if len(entries) == 1 else group_spellings(entries)
            if matches is None:
                found += versions
                continue
            for version in versions:
                if matches(version[0].folded):
                    found.append(version)
                checked += 1
                if checked % DEADLINE_CHECK_INTERVAL == 0 and timed_out():
                    stopped = True
                    break
    first = nsmallest(limit + 1, found, key=lambda version: (version[0].folded, version[0].content.id))
    return SingleCopyScan(count, size, first[:limit], stopped or len(first) > limit)
