"""How common each piece is, and which of some is the rarest: pure, and knows no holder.

Level n is the set of the pieces that n partial holders have, so every piece is on one level. Whole holders have them
all and tell none apart; they are not counted. A set of pieces is a Python integer, bit i for piece i (as in `bitmap`):
what a holder has moves up by a few operations on whole sets, and a choice among 65,536 pieces costs microseconds.

Rarest first is BitTorrent's (Cohen 2003, "Incentives Build Robustness in BitTorrent"): what few have is fetched before
those few are gone, and then there is one more who has it.
"""

from __future__ import annotations

from collections.abc import Iterator

# What as many holders have, or more, is all equally common: a crowd of liars cannot make the levels grow. A download is
# connected to 24 holders at most (`swarm`), so of honest ones none is miscounted.
MAX_LEVELS = 64


class RarityLevels:
    """The pieces of one file by the number of partial holders that have them. Iterates over levels, rarest first."""

    __slots__ = ("_levels",)

    def __init__(self, pieces: int) -> None:
        """Nobody has any of the `pieces` yet."""
        self._levels = [(1 << pieces) - 1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def unshared(self) -> int:
        """The set of the pieces that no partial holder has."""
        return self._levels[0]

    def add(self, pieces: int) -> None:
        """One more holder has these pieces."""
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
        """One holder fewer has these pieces. Those that nobody has stay where they are."""
        levels = self._levels
        # From the bottom, or a piece would be moved twice.
        for n in range(1, len(levels)):
            moved = levels[n] & pieces
            if moved:
                levels[n] ^= moved
                levels[n - 1] |= moved

    def rarest(self, candidates: int, start: int) -> int:
        """Return the rarest piece of a set that is not empty; of equally rare ones the first from `start` on.

        After the last piece comes the first again.
        """
        for level in self._levels:
            rare = candidates & level
            if rare:
                after = rare >> start
                return start + _lowest(after) if after else _lowest(rare)
        raise AssertionError("every piece is on a level")


def _lowest(pieces: int) -> int:
    return (pieces & -pieces).bit_length() - 1
