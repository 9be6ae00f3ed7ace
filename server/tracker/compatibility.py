"""Which pservers this tracker works with: protocols are ranges of numbers, and one number in common is enough.

docs/upgrade.md has the table of protocols and the rules by which they change.
"""

from tracker import PROTOCOL, VERSION
from tracker.errors import Incompatible

# What a pserver speaks that sends no numbers.
UNNUMBERED = (1, 1)


def check_protocol(version: str, protocol: tuple[int, int]) -> None:
    """Check that a pserver and this tracker have a protocol in common.

    Args:
        version: the pserver's release, as it says; empty if it does not.
        protocol: the oldest and the newest protocol that it speaks.

    Raises:
        Incompatible: they have none. The message says which side to upgrade.
    """
    (oldest, newest), (own_oldest, own_newest) = protocol, PROTOCOL
    if max(oldest, own_oldest) <= min(newest, own_newest):
        return
    side = "the tracker" if oldest > own_newest else "the pserver"
    release = f"release {version}" if version else "an older release"
    raise Incompatible(
        f"the pserver is {release} ({_range(protocol)}), this tracker release {VERSION} ({_range(PROTOCOL)}): "
        f"upgrade {side}"
    )


def _range(protocol: tuple[int, int]) -> str:
    oldest, newest = protocol
    return f"protocol {oldest}" if oldest == newest else f"protocols {oldest} to {newest}"
