"""Two env files, one value; all their faults at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.settings import read_settings
from common.env_file import EnvFault


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_optional_keys_have_defaults(tmp_path: Path) -> None:
    own = write(tmp_path, "own", "PSERVER_URL=127.0.0.1\nPSERVER_PORT=5001\n")
    found = read_settings(own, None, {"XDG_STATE_HOME": "/xdg"})
    assert (found.host, found.port, found.tls_ca, found.env_pserver) == ("127.0.0.1", 5001, None, None)
    assert found.state_dir == Path("/xdg/p2p/peer-5001")


def test_the_state_dir_of_env_pclient_goes_before_that_of_env_pserver(tmp_path: Path) -> None:
    other = write(tmp_path, "other", "PSERVER_PORT=5001\n")
    own = write(tmp_path, "own", "PSERVER_URL=localhost\nPSERVER_PORT=5001\nSTATE_DIR=mine\n")
    assert read_settings(own, other).state_dir == tmp_path / "mine"
    other = write(tmp_path, "other", "PSERVER_PORT=5001\nSTATE_DIR=theirs\nQUOTA=nonsense\nUNKNOWN=1\n")
    own = write(tmp_path, "own", "PSERVER_URL=localhost\nPSERVER_PORT=0\n")
    found = read_settings(own, other)
    assert (found.state_dir, found.port, found.env_pserver) == (tmp_path / "theirs", 5001, Path(other))


def test_port_0_needs_a_state_dir(tmp_path: Path) -> None:
    own = write(tmp_path, "own", "PSERVER_URL=localhost\nPSERVER_PORT=0\n")
    with pytest.raises(EnvFault, match="STATE_DIR: missing"):
        read_settings(own, None)


def test_a_server_env_file_is_no_env_pserver(tmp_path: Path) -> None:
    own = write(tmp_path, "own", "PSERVER_URL=localhost\nPSERVER_PORT=5001\n")
    other = write(tmp_path, "other", "SERVER_URL=localhost\nSERVER_PORT=5000\nSTATE_DIR=state\n")
    with pytest.raises(EnvFault) as caught:
        read_settings(own, other)
    assert caught.value.lines == (f"{other}: this is a server env file; pserver needs its own",)


def test_faults_of_both_files_are_reported_together(tmp_path: Path) -> None:
    own = write(tmp_path, "own", "PSERVER_URL=localhost\nPSRVER_PORT=1\nQUOTA=5\n")
    other = write(tmp_path, "other", "PSERVER_PORT=99999\n")
    with pytest.raises(EnvFault) as caught:
        read_settings(own, other)
    text = str(caught.value)
    assert "PSERVER_PORT: missing" in text
    assert "PSRVER_PORT: '1': unknown key; did you mean PSERVER_PORT?" in text
    assert "QUOTA: '5': unknown key" in text
    assert "'99999' should be a port" in text


@pytest.mark.parametrize(
    ("mine", "theirs", "keys"),
    [
        ("PSERVER_PORT=5001", "PSERVER_PORT=5002", ["PSERVER_PORT"]),
        ("PSERVER_PORT=5001", "PSERVER_PORT=0\nSTATE_DIR=one", ["PSERVER_PORT"]),
        ("PSERVER_PORT=0\nSTATE_DIR=one", "PSERVER_PORT=0\nSTATE_DIR=two", ["STATE_DIR"]),
        ("PSERVER_PORT=1\nSTATE_DIR=one", "PSERVER_PORT=2\nSTATE_DIR=two", ["PSERVER_PORT", "STATE_DIR"]),
        ("PSERVER_PORT=0\nSTATE_DIR=link", "PSERVER_PORT=5001\nSTATE_DIR=one", []),
    ],
)
def test_env_files_of_different_peers_are_a_fault(tmp_path: Path, mine: str, theirs: str, keys: list[str]) -> None:
    (tmp_path / "link").symlink_to("one")
    own = write(tmp_path, "own", f"PSERVER_URL=localhost\n{mine}\n")
    other = write(tmp_path, "other", f"{theirs}\n")
    lines: tuple[str, ...] = ()
    try:
        read_settings(own, other)
    except EnvFault as fault:
        lines = fault.lines
    assert [line.split(": ")[1] for line in lines] == keys
    assert all(f"should be the same as in {other}, which has" in line for line in lines)
