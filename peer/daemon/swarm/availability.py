"""The rarity of each piece, and the rarest piece of a set. Pure, and knows no source.

Level n is the set of the pieces that n partial sources have, so every piece is on exactly one level. Complete sources
have all pieces and do not distinguish them; they are not counted. A set of pieces is a Python integer, bit i for piece
i (as in `storage.bitmap`). One source moves up by a few operations on whole sets, and a choice among 65,536 pieces
costs microseconds.

Rarest first comes from BitTorrent (Cohen 2003, "Incentives Build Robustness in BitTorrent"). A piece that few sources
have is requested before those sources leave, and then one more peer has it.
"""

from __future__ import annotations

from collections.abc import Iterator

# Pieces of this many sources or more share the last level, so hostile sources cannot make the levels grow. A download
# connects to `download.MAX_CONNECTIONS` (24) sources, so the count of honest sources stays exact.
MAX_LEVELS = 64


class RarityLevels:
    """The pieces of one file by the number of partial sources that have them. Iterates over levels, rarest first."""

    __slots__ = ("_levels",)

    def __init__(self, pieces: int) -> None:
        """Create levels for `pieces` pieces that no partial source has."""
        self._levels = [(1 << pieces) - 1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def unshared(self) -> int:
        """The set of the pieces that no partial source has."""
        return self._levels[0]

    def add(self, pieces: int) -> None:
        """Count one more source for each piece of the set `pieces`."""
        levels = self._levels
        if len(levels) < MAX_LEVELS and levels[-1] & pieces:
            levels.append(0)
        # From the top, or a piece would be moved twice.
        for n in range(len(levels) - 2, -1, -1):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n + 1] |= moved

    def remove(self, pieces: int) -> None:
        """Count one source fewer for each piece of the set `pieces`. Pieces at 0 stay there."""
        levels = self._levels
        # From the bottom, or a piece would be moved twice.
        for n in range(1, len(levels)):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n - 1] |= moved

    def rarest(self, candidates: int, start: int) -> int:
        """Return the rarest piece of a set.

        Args:
            candidates: The set; not empty.
            start: Among equally rare pieces the first one from this number on wins; after the last piece comes the
                first again.
        """
        for level in self._levels:
            rare = candidates & level
            if rare:
                after = rare >> start
                return start + _lowest(after) if after else _lowest(rare)
        raise AssertionError("every piece is on a level")


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
