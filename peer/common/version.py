"""The release of pserver and pclient, the protocols that it speaks, and how it fits to another program. No I/O.

docs/upgrade.md has the table of protocols and the rules by which they change.
"""

from __future__ import annotations

from typing import NamedTuple

# What `--version` prints.
VERSION = "0.2.0"
# The oldest and the newest protocol that this release speaks. A program that sends no numbers speaks 1.
PROTOCOL = (1, 2)


class Release(NamedTuple):
    """What another program says of itself; the defaults are those of a program that says nothing."""

    # Empty before 0.2.0.
    version: str = ""
    # The oldest and the newest protocol that it speaks.
    oldest: int = 1
    newest: int = 1

    def __str__(self) -> str:
        """Return its name for a message, such as `release 0.2.0 (protocols 1 to 2)`."""
        release = f"release {self.version}" if self.version else "an older release"
        if self.oldest == self.newest:
            return f"{release} (protocol {self.newest})"
        return f"{release} (protocols {self.oldest} to {self.newest})"


OWN_RELEASE = Release(VERSION, *PROTOCOL)


def newest_common_protocol(other: Release) -> int:
    """Return the newest protocol that both programs speak; 0 if there is none."""
    newest = min(other.newest, OWN_RELEASE.newest)
    return newest if newest >= max(other.oldest, OWN_RELEASE.oldest) else 0


def incompatible_message(name: str, other: Release, own_name: str) -> str:
    """Return the line about two programs without a common protocol: both releases, and the side to upgrade.

    Args:
        name: the other program, such as `the tracker at http://127.0.0.1:5000`.
        other: what it says of itself.
        own_name: this program, such as `this pserver`.
    """
    side = own_name if other.oldest > OWN_RELEASE.newest else name
    return f"{both_releases(name, other, own_name)}: upgrade {side}"


def both_releases(name: str, other: Release, own_name: str) -> str:
    """Return which releases two programs are; the arguments are those of `incompatible_message`."""
    return f"{name} is {other}, {own_name} {OWN_RELEASE}"
