"""A pserver of another release works as far as both know the same calls; otherwise both releases are named."""

import grpc
import pytest

import pserver_pb2 as pb
from common.version import OWN_RELEASE, PROTOCOL, VERSION
from pclient_runs import Pclient
from scripted_daemon import ScriptedDaemon

NEWEST = PROTOCOL[1]
OLD_RELEASES = pytest.mark.parametrize(
    ("release", "name"),
    [
        (pb.Release(), "an older release (protocol 1)"),
        (pb.Release(version="0.1.9", oldest_protocol=1, newest_protocol=1), "release 0.1.9 (protocol 1)"),
    ],
)


def test_a_pserver_without_numbers_is_used(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.release = pb.Release()
    assert pclient("status", "--json").code == 0


def test_a_pserver_without_a_common_protocol_gets_neither_cookie_nor_password(
    daemon: ScriptedDaemon, pclient: Pclient
) -> None:
    daemon.release = pb.Release(version="9.1.0", oldest_protocol=NEWEST + 1, newest_protocol=NEWEST + 2)
    done = pclient("login", "ana", "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (69, "incompatible")
    assert done.error["message"] == (
        f"the pserver at 127.0.0.1:{daemon.port} is release 9.1.0 (protocols {NEWEST + 1} to {NEWEST + 2}), "
        f"this pclient {OWN_RELEASE}: upgrade this pclient"
    )
    assert [name for name, _ in daemon.calls] == ["Prove"]


@OLD_RELEASES
def test_a_link_is_not_asked_of_a_pserver_that_would_copy(
    daemon: ScriptedDaemon, pclient: Pclient, release: pb.Release, name: str
) -> None:
    daemon.release = release
    done = pclient("upload", "a.txt", "--link", "--json")
    assert (done.code, done.error["code"]) == (69, "incompatible")
    assert done.error["message"].endswith(f"{name}, this pclient {OWN_RELEASE}: --link needs a newer pserver")
    assert not daemon.requests("Upload")


@OLD_RELEASES
def test_a_call_that_the_pserver_does_not_know_names_both_releases(
    daemon: ScriptedDaemon, pclient: Pclient, release: pb.Release, name: str
) -> None:
    daemon.release = release
    unknown = (grpc.StatusCode.UNIMPLEMENTED, "", "Method not found!")
    daemon.refusals = {"Status": unknown, "Remove": unknown}
    for command in (["status"], ["remove", "a.txt", "--yes"]):
        done = pclient(*command, "--json")
        assert (done.code, done.error["code"]) == (69, "incompatible")
        message = done.error["message"]
        assert f"is {name}, this pclient release {VERSION}" in message
        assert message.endswith("restart the pserver with the newer release")
