"""The tracker says which release it is, and refuses a pserver without a common protocol."""

import pytest

from tracker import PROTOCOL, VERSION
from tracker_fixture import TrackerFixture

OLDEST, NEWEST = PROTOCOL
LOGIN = {"username": "ana", "password": "x", "url": "127.0.0.1:5001"}


def test_healthz_and_login_carry_version_and_protocol(world: TrackerFixture) -> None:
    for answer in (world.call("GET", "/healthz"), world.call("POST", "/login", json=LOGIN)):
        assert answer.json is not None
        assert (answer.json["version"], answer.json["protocol"]) == (VERSION, list(PROTOCOL))


@pytest.mark.parametrize("fields", [{}, {"version": "0.3.0", "protocol": [NEWEST, NEWEST + 3]}, {"protocol": [1, 1]}])
def test_one_common_protocol_is_enough(world: TrackerFixture, fields: dict[str, object]) -> None:
    assert world.call("POST", "/login", json=LOGIN | fields).status_code == 201


def test_a_pserver_without_a_common_protocol_is_refused_with_the_side_to_upgrade(world: TrackerFixture) -> None:
    newer = LOGIN | {"version": "9.1.0", "protocol": [NEWEST + 1, NEWEST + 4]}
    answer = world.call("POST", "/login", json=newer)
    assert answer.json == {
        "status": 400,
        "code": "incompatible",
        "message": f"the pserver is release 9.1.0 (protocols {NEWEST + 1} to {NEWEST + 4}), "
        f"this tracker release {VERSION} (protocols {OLDEST} to {NEWEST}): upgrade the tracker",
    }
    # Nothing was changed: the account does not exist.
    assert world.call("POST", "/login", json=LOGIN).status_code == 201


@pytest.mark.parametrize("protocol", [[1], [1, 2, 3], ["1", "2"], [0, 1], [1, 2.5], None, 2])
def test_a_protocol_that_is_no_range_is_refused(world: TrackerFixture, protocol: object) -> None:
    answer = world.call("POST", "/login", json=LOGIN | {"protocol": protocol})
    assert (answer.status_code, (answer.json or {})["code"]) == (400, "bad_request")
