"""Two programs fit if one protocol is in both ranges; otherwise the message names both releases and the older side."""

import pytest

from common.version import OWN_RELEASE, VERSION, Release, incompatible_message, newest_common_protocol

NEWEST = OWN_RELEASE.newest
OWN = f"release {VERSION} (protocols {OWN_RELEASE.oldest} to {NEWEST})"


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Release(), 1),
        (Release("0.2.0", 1, NEWEST), NEWEST),
        (Release("9.0.0", NEWEST, NEWEST + 5), NEWEST),
        (Release("9.0.0", NEWEST + 1, NEWEST + 5), 0),
        (Release("0.0.1", 0, 0), 0),
    ],
)
def test_the_newest_common_protocol_is_chosen(other: Release, expected: int) -> None:
    assert newest_common_protocol(other) == expected


def test_the_older_side_is_to_be_upgraded() -> None:
    newer, older = Release("9.0.0", NEWEST + 1, NEWEST + 5), Release("0.0.1", 0, 0)
    assert incompatible_message("the tracker", newer, "this pserver") == (
        f"the tracker is release 9.0.0 (protocols {NEWEST + 1} to {NEWEST + 5}), "
        f"this pserver {OWN}: upgrade this pserver"
    )
    assert incompatible_message("the tracker", older, "this pserver") == (
        f"the tracker is release 0.0.1 (protocol 0), this pserver {OWN}: upgrade the tracker"
    )
    assert str(Release()) == "an older release (protocol 1)"
