"""Releases that do not fit: login, status and log have one line with both releases and the side to upgrade."""

from urllib.parse import urlsplit

from common.version import OWN_RELEASE, PROTOCOL
from eventually import eventually
from scripted_tracker import scripted_tracker
from system.cluster import PASSWORD, Cluster

NEWEST = PROTOCOL[1]


def test_a_tracker_without_a_common_protocol_is_named_in_login_status_and_log(cluster: Cluster) -> None:
    with scripted_tracker() as later:
        later.release = {"version": "9.1.0", "protocol": [NEWEST + 1, NEWEST + 2]}
        ana = cluster.peer("ana", login=False, SERVER_PORT=urlsplit(later.url).port)
        line = (
            f"the tracker at {later.url} is release 9.1.0 (protocols {NEWEST + 1} to {NEWEST + 2}), "
            f"this pserver {OWN_RELEASE}: upgrade this pserver"
        )
        refused = ana.pclient("login", "ana", "--password-stdin", typed=f"{PASSWORD}\n")
        assert (refused.code, refused.error) == (69, "incompatible")
        assert refused.objects[0]["error"]["message"] == line
        shown = ana.pclient("login", "ana", "--password-stdin", typed=f"{PASSWORD}\n", json_output=False)
        assert (shown.code, shown.stdout) == (69, "")
        assert shown.stderr == f"error: {line}\n"
        assert line in ana.pclient("status", json_output=False).stdout
        assert ana.status().tracker_fault == line
        eventually(lambda: ana.program.log.read_text().count(line) == 1)
        # It asked, and sent neither name nor password.
        assert {path for _, path, _ in later.requests} == {"/healthz"}

        # The tracker is replaced by one that fits.
        later.release = {}
        eventually(lambda: not ana.status().tracker_fault)
