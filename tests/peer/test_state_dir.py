"""With a STATE_DIR that cannot be written, a start or login fails clearly, and a stop is still clean."""

import logging
from pathlib import Path

import grpc
import pytest

import file_systems
import pserver_pb2 as pb
from common.env_file import EnvFault
from daemon.errors import StorageFault
from daemon.main import exclusive_lock
from eventually import eventually
from live_pserver import LivePserver, code_of, live_pserver, settings_for
from live_tracker import LiveTracker


def spoil(path: Path) -> None:
    """Replace a file by a folder that can be neither replaced nor removed, even by root."""
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    (path / "in the way").touch()


def alive(ana: LivePserver) -> set[str]:
    """Return the users of the online peers, as another peer sees them."""
    return {peer.user for peer in ana.call(ana.pserver.tracker.peers())}


@pytest.mark.parametrize("file", ["cookie", "port"])
def test_a_failed_start_is_one_line_and_leaves_nothing_behind(tmp_path: Path, tracker: LiveTracker, file: str) -> None:
    state = tmp_path / "peer/state"
    spoil(state / file)
    with pytest.raises(StorageFault, match=f"state/{file}"), live_pserver(tmp_path / "peer", tracker):
        pytest.fail("pclient could not verify or find this pserver")
    assert not [path for path in state.iterdir() if path.is_file() and path.name in ("cookie", "port")]


def test_a_clean_stop_runs_every_step_even_if_the_disk_fails(
    tmp_path: Path, tracker: LiveTracker, ana: LivePserver, caplog: pytest.LogCaptureFixture
) -> None:
    with live_pserver(tmp_path / "leaver", tracker, "leaver") as peer:
        eventually(lambda: "leaver" in alive(ana))
        for file in ("session", "cookie", "port"):
            spoil(tmp_path / "leaver/state" / file)
    assert "leaver" not in alive(ana)
    assert not peer.pserver.manifest_cache.is_open
    assert [file for file in ("session", "cookie", "port") if f"state/{file}" in caplog.text] == [
        "session",
        "cookie",
        "port",
    ]


def test_a_login_that_cannot_be_saved_is_undone_at_the_tracker(
    tmp_path: Path, tracker: LiveTracker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_pserver(tmp_path / "full", tracker, "before") as peer, peer.control() as control:
        session = tmp_path / "full/state/session"
        spoil(session)
        with pytest.raises(grpc.RpcError) as error:
            control.Login(pb.LoginRequest(user="after", password="correct horse"), metadata=peer.cookie, timeout=20)
        assert code_of(error.value)[1] == "io"
        assert peer.pserver.account.user is None
        assert f"logout user='after' address='{peer.address}'" in caplog.messages
        (session / "in the way").unlink()
        session.rmdir()
        peer.login("after")
        assert peer.pserver.account.user == "after"


@pytest.mark.filesystems
def test_a_state_dir_that_all_users_can_read_is_refused(tmp_path: Path, tracker: LiveTracker) -> None:
    with file_systems.exfat(tmp_path / "exfat.img", tmp_path / "stick"):
        settings = settings_for(tmp_path, tracker.port, state_dir=tmp_path / "stick" / "state")
        with pytest.raises(EnvFault, match="without permissions"), exclusive_lock(settings):
            pytest.fail("the cookie would be readable")
