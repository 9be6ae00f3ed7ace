"""The client connects only to a pserver that knows the cookie."""

from __future__ import annotations

import shlex
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

import pserver_pb2 as pb
from cli.daemon_client import DaemonClient
from cli.errors import CliError
from cli.settings import read_settings
from common import channels, cookie, state_files
from eventually import eventually
from pclient_runs import run
from scripted_daemon import ScriptedDaemon, downloaded

LAUNCHER = Path(__file__).parents[2] / "peer" / "pserver.py"


def env_file(folder: Path, port: int, *more: str) -> str:
    path = folder / ".env_pclient"
    path.write_text("\n".join(("PSERVER_URL=127.0.0.1", f"PSERVER_PORT={port}", "STATE_DIR=state", *more)) + "\n")
    return str(path)


def test_no_pserver_exits_69_with_the_command_that_starts_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my peer"
    folder.mkdir()
    (folder / ".env_pserver").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.chdir(tmp_path)
    done = run(env_file(folder, 1), "status", "--json")
    assert (done.code, done.error["code"]) == (69, "pserver_unreachable")
    command = done.error["message"].partition("start one: ")[2]
    assert shlex.split(command) == [".venv/bin/python", str(LAUNCHER), "my peer/.env_pserver"]
    monkeypatch.chdir(LAUNCHER.parent)
    done = run(env_file(folder, 1), "status", "--json")
    command = done.error["message"].partition("start one: ")[2]
    assert shlex.split(command) == [str(python), "pserver.py", str(folder / ".env_pserver")]


def test_a_removed_current_folder_does_not_hide_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = env_file(tmp_path, 1)
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    assert run(env, "status", "--json").code == 69


def test_a_cookie_of_a_dead_pserver_is_no_pserver(daemon: ScriptedDaemon, env: str) -> None:
    daemon.stop()
    done = run(env, "status", "--json")
    assert (done.code, done.error["code"]) == (69, "pserver_unreachable")


def test_listing_files_has_no_timeout(daemon: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.daemon_client._TRACKER_TIMEOUT", 0.2)
    daemon.pages = [[pb.ListedFile(name=name, id="a" * 64)] for name in ("one", "two")]
    client = DaemonClient(read_settings(env_file(tmp_path, daemon.port), None), lambda why: None)
    pages = client.files("")
    names = [file.name for file in next(pages)]
    late = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > late)
    assert names + [file.name for page in pages for file in page] == ["one", "two"]
    client.close()


def test_another_program_on_the_port_gets_neither_cookie_nor_password(daemon: ScriptedDaemon, env: str) -> None:
    daemon.wrong_proof = True
    done = run(env, "login", "ana", "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert [name for name, _ in daemon.calls] == ["Prove"]
    heard = str(daemon.calls)
    assert daemon.cookie.hex() not in heard
    assert "secret" not in heard


def test_localhost_is_one_address_only(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    env = tmp_path / ".env_pclient"
    env.write_text(f"PSERVER_URL=localhost\nPSERVER_PORT={daemon.port}\nSTATE_DIR=state\n")
    with socket.socket(socket.AF_INET6) as squatter:
        try:
            squatter.bind(("::1", daemon.port))
        except OSError:
            pytest.skip("no IPv6 on loopback")
        squatter.listen()
        squatter.setblocking(False)
        assert run(str(env), "status", "--json").code == 0
        with pytest.raises(BlockingIOError):
            squatter.accept()


def test_a_pserver_with_another_state_dir_gets_no_password(daemon: ScriptedDaemon, env: str, tmp_path: Path) -> None:
    cookie.make_cookie(tmp_path / "state")
    done = run(env, "login", "ana", "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert "STATE_DIR" in done.error["message"]
    assert daemon.requests("Login") == []


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_cookie_that_others_can_read_is_refused(daemon: ScriptedDaemon, env: str, tmp_path: Path, mode: int) -> None:
    (tmp_path / "state" / "cookie").chmod(mode)
    done = run(env, "status", "--json")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert "accessible to other users" in done.error["message"]
    assert daemon.calls == []


def test_port_0_means_the_port_in_the_state_dir(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    assert run(env_file(tmp_path, 0), "status", "--json").code == 0
    state_files.remove(tmp_path / "state" / "port")
    assert run(env_file(tmp_path, 0), "status", "--json").code == 69


def test_a_client_reconnects_to_a_restarted_pserver(daemon: ScriptedDaemon, env: str, tmp_path: Path) -> None:
    client = DaemonClient(read_settings(env_file(tmp_path, 0), None), lambda why: None)
    assert client.status().user == ""
    daemon.stop()
    other = ScriptedDaemon(tmp_path / "state")
    try:
        other.status.user = "ana"
        assert client.status().user == "ana"
    finally:
        client.close()
        other.stop()


def test_a_call_after_the_death_of_the_pserver_goes_to_its_successor(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    successors: list[ScriptedDaemon] = []
    client = DaemonClient(
        read_settings(env_file(tmp_path, daemon.port), None),
        lambda why: successors.append(ScriptedDaemon(tmp_path / "state", daemon.port)),
    )
    client.connect()
    daemon.stop()
    try:
        assert client.login("ana", "secret").user == "ana"
        [successor] = successors
        assert len(successor.requests("Login")) == 1
    finally:
        client.close()
        for each in successors:
            each.stop()


def test_a_pserver_without_tls_is_explained_to_a_pclient_with_tls(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    done = run(env_file(tmp_path, daemon.port, "TLS_CA=ca.pem"), "status", "--json")
    assert (done.code, done.error["code"]) == (69, "pserver_unreachable")
    assert "set TLS_CERT and TLS_KEY" in done.error["message"]


def test_a_program_on_the_port_of_a_dead_pserver_gets_nothing_from_a_running_client(
    daemon: ScriptedDaemon, tmp_path: Path
) -> None:
    client = DaemonClient(read_settings(env_file(tmp_path, daemon.port), None), lambda why: None)
    assert client.status().user == ""
    daemon.stop()
    (tmp_path / "squatter").mkdir(0o700)
    squatter = AcceptAll(tmp_path / "squatter", daemon.port)
    try:
        with pytest.raises(CliError, match="got neither cookie nor password"):
            client.login("ana", "secret")
        assert squatter.requests("Login") == []
        assert daemon.cookie.hex() not in str(squatter.calls)
    finally:
        client.close()
        squatter.stop()


class AcceptAll(ScriptedDaemon):
    """Accepts every call, without a cookie."""

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append((method, (request, context.invocation_metadata())))

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]


def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "state").mkdir()
    credentials = channels.server_credentials(tmp_path / "cert.pem", tmp_path / "key.pem")
    daemon = ScriptedDaemon(tmp_path / "state", credentials=credentials)
    try:
        daemon.transfers = [[downloaded("x")]]
        assert run(env_file(tmp_path, daemon.port, "TLS_CA=ca.pem"), "download", "x", "--json").code == 0
        assert run(env_file(tmp_path, daemon.port, "TLS_CA=other.pem"), "status", "--json").code == 69
        without = run(env_file(tmp_path, daemon.port), "status", "--json")
        assert (without.code, "set TLS_CA" in without.error["message"]) == (69, True)
        (tmp_path / "empty.pem").touch()
        assert run(env_file(tmp_path, daemon.port, "TLS_CA=empty.pem"), "status", "--json").code == 78
    finally:
        daemon.stop()
