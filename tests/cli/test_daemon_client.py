"""Finding one's own pserver: it has to prove itself, and learns nothing if it cannot."""

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
from scripted_daemon import ScriptedNode, downloaded

LAUNCHER = Path(__file__).parents[2] / "peer" / "pserver.py"


def env_file(folder: Path, port: int, *more: str) -> str:
    path = folder / ".env_pclient"
    path.write_text("\n".join(("PSERVER_URL=127.0.0.1", f"PSERVER_PORT={port}", "STATE_DIR=state", *more)) + "\n")
    return str(path)


def test_nobody_there_is_69_and_the_command_that_would_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_current_folder_that_was_removed_is_in_the_way_of_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = env_file(tmp_path, 1)
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    assert run(env, "status", "--json").code == 69


def test_a_cookie_that_a_dead_pserver_left_is_no_pserver(node: ScriptedNode, env: str) -> None:
    node.stop()
    done = run(env, "status", "--json")
    assert (done.code, done.error["code"]) == (69, "pserver_unreachable")


def test_the_files_of_the_network_may_be_read_slowly(
    node: ScriptedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.daemon_client._ASKS_TRACKER", 0.2)
    node.pages = [[pb.ListedFile(name=name, id="a" * 64)] for name in ("one", "two")]
    client = DaemonClient(read_settings(env_file(tmp_path, node.port), None), lambda why: None)
    pages = client.files("")
    names = [file.name for file in next(pages)]
    late = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > late)
    assert names + [file.name for page in pages for file in page] == ["one", "two"]
    client.close()


def test_a_squatter_on_the_port_learns_neither_cookie_nor_password(node: ScriptedNode, env: str) -> None:
    node.lies = True
    done = run(env, "login", "ana", "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert [name for name, _ in node.calls] == ["Prove"]
    heard = str(node.calls)
    assert node.cookie.hex() not in heard
    assert "secret" not in heard


def test_localhost_is_the_address_of_the_pserver_and_no_squatters(node: ScriptedNode, tmp_path: Path) -> None:
    env = tmp_path / ".env_pclient"
    env.write_text(f"PSERVER_URL=localhost\nPSERVER_PORT={node.port}\nSTATE_DIR=state\n")
    with socket.socket(socket.AF_INET6) as squatter:
        try:
            squatter.bind(("::1", node.port))
        except OSError:
            pytest.skip("no IPv6 on loopback")
        squatter.listen()
        squatter.setblocking(False)
        assert run(str(env), "status", "--json").code == 0
        with pytest.raises(BlockingIOError):
            squatter.accept()


def test_the_pserver_of_another_state_dir_is_told_nothing(node: ScriptedNode, env: str, tmp_path: Path) -> None:
    cookie.make_cookie(tmp_path / "state")
    done = run(env, "login", "ana", "--json", typed="secret\n")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert "STATE_DIR" in done.error["message"]
    assert node.asked("Login") == []


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_cookie_open_to_others_is_refused_with_the_reason(
    node: ScriptedNode, env: str, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "state" / "cookie").chmod(mode)
    done = run(env, "status", "--json")
    assert (done.code, done.error["code"]) == (77, "not_allowed")
    assert "accessible to other users" in done.error["message"]
    assert node.calls == []


def test_port_0_means_the_one_in_the_state_dir(node: ScriptedNode, tmp_path: Path) -> None:
    assert run(env_file(tmp_path, 0), "status", "--json").code == 0
    state_files.remove(tmp_path / "state" / "port")
    assert run(env_file(tmp_path, 0), "status", "--json").code == 69


def test_a_restarted_pserver_is_found_again_by_a_running_menu(node: ScriptedNode, env: str, tmp_path: Path) -> None:
    client = DaemonClient(read_settings(env_file(tmp_path, 0), None), lambda why: None)
    assert client.status().user == ""
    node.stop()
    other = ScriptedNode(tmp_path / "state")
    try:
        other.status.user = "ana"
        assert client.status().user == "ana"
    finally:
        client.close()
        other.stop()


def test_the_first_order_after_the_death_of_the_pserver_goes_to_the_one_that_is_started(
    node: ScriptedNode, tmp_path: Path
) -> None:
    successors: list[ScriptedNode] = []
    client = DaemonClient(
        read_settings(env_file(tmp_path, node.port), None),
        lambda why: successors.append(ScriptedNode(tmp_path / "state", node.port)),
    )
    client.connect()
    node.stop()
    try:
        assert client.login("ana", "secret").user == "ana"
        [successor] = successors
        assert len(successor.asked("Login")) == 1
    finally:
        client.close()
        for each in successors:
            each.stop()


def test_a_pserver_without_tls_is_told_of_to_a_terminal_with(node: ScriptedNode, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    done = run(env_file(tmp_path, node.port, "TLS_CA=ca.pem"), "status", "--json")
    assert (done.code, done.error["code"]) == (69, "pserver_unreachable")
    assert "set TLS_CERT and TLS_KEY" in done.error["message"]


def test_who_takes_the_port_of_a_pserver_that_ended_learns_nothing_from_a_running_menu(
    node: ScriptedNode, tmp_path: Path
) -> None:
    client = DaemonClient(read_settings(env_file(tmp_path, node.port), None), lambda why: None)
    assert client.status().user == ""
    node.stop()
    (tmp_path / "squatter").mkdir(0o700)
    squatter = Taker(tmp_path / "squatter", node.port)
    try:
        with pytest.raises(CliError, match="was told nothing"):
            client.login("ana", "secret")
        assert squatter.asked("Login") == []
        assert node.cookie.hex() not in str(squatter.calls)
    finally:
        client.close()
        squatter.stop()


class Taker(ScriptedNode):
    """Takes whatever it is told."""

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append((method, (request, context.invocation_metadata())))

    def asked(self, method: str) -> list[Any]:
        return [told for name, told in self.calls if name == method]


def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "state").mkdir()
    credentials = channels.server_credentials(tmp_path / "cert.pem", tmp_path / "key.pem")
    node = ScriptedNode(tmp_path / "state", credentials=credentials)
    try:
        node.transfers = [[downloaded("x")]]
        assert run(env_file(tmp_path, node.port, "TLS_CA=ca.pem"), "download", "x", "--json").code == 0
        assert run(env_file(tmp_path, node.port, "TLS_CA=other.pem"), "status", "--json").code == 69
        without = run(env_file(tmp_path, node.port), "status", "--json")
        assert (without.code, "set TLS_CA" in without.error["message"]) == (69, True)
        (tmp_path / "empty.pem").touch()
        assert run(env_file(tmp_path, node.port, "TLS_CA=empty.pem"), "status", "--json").code == 78
    finally:
        node.stop()
