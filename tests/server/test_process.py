"""The tracker as a process: start, shutdown, faults at start, and clients that misbehave on the network."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import requests
import trustme

from eventually import eventually
from live_tracker import live_tracker
from tracker import VERSION
from tracker.http_server import HEADER_TIMEOUT
from tracker.passwords import HashCost
from tracker.wsgi_bridge import SMALL_BODY_TIMEOUT

LAUNCHER = Path(__file__).parents[2] / "server" / "server.py"


def write_env(folder: Path, **keys: object) -> Path:
    settings = {"SERVER_URL": "127.0.0.1", "SERVER_PORT": 0, "STATE_DIR": folder / "state"} | keys
    path = folder / ".env_server"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


@contextmanager
def running(env: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), str(env)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("READY "), line + (process.communicate()[1] if not line else "")
        yield process, json.loads(line.removeprefix("READY "))
    finally:
        process.kill()
        process.communicate()


def run(env: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LAUNCHER), str(env)], capture_output=True, text=True, timeout=30, check=False
    )


def login(port: int, user: str = "ana", scheme: str = "http", **kwargs: Any) -> requests.Response:
    body = {"username": user, "password": "x", "url": "127.0.0.1:5001"}
    return requests.post(f"{scheme}://127.0.0.1:{port}/login", json=body, timeout=10, **kwargs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_tracker_prints_ready_serves_and_exits_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(write_env(tmp_path)) as (process, ready):
        assert ready["host"] == "127.0.0.1" and ready["pid"] == process.pid
        assert requests.get(f"http://127.0.0.1:{ready['port']}/healthz", timeout=5).json()["status"] == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0
        assert out == "", "READY is the only line on stdout"
        assert "Traceback" not in err
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_on_a_terminal_the_address_of_the_dashboard_is_printed(tmp_path: Path, host: str, shown: str) -> None:
    terminal, stderr = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), str(write_env(tmp_path, SERVER_URL=host))],
        stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip
    os.close(stderr)
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline().removeprefix("READY "))["port"]
        with os.fdopen(terminal, encoding="utf-8", errors="replace") as lines:
            assert f"Dashboard: http://{shown}:{port}/\n" in iter(lines.readline, "")
    finally:
        process.kill()
        process.communicate()


def test_running_requests_get_their_response_before_the_exit(tmp_path: Path) -> None:
    with running(write_env(tmp_path)) as (process, ready):
        answers: list[int] = []
        logins = [
            threading.Thread(target=lambda n=n: answers.append(login(ready["port"], f"u{n}").status_code))
            for n in range(3)
        ]
        for thread in logins:
            thread.start()
        # After the first response other logins are still running.
        deadline = time.monotonic() + 20
        while not answers and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        process.terminate()
        for thread in logins:
            thread.join(20)
        assert process.wait(20) == 0
        assert len(answers) == 3 and set(answers) <= {200, 201, 409}


def test_idle_connections_do_not_delay_the_exit(tmp_path: Path) -> None:
    with running(write_env(tmp_path)) as (process, ready), requests.Session() as session:
        session.get(f"http://127.0.0.1:{ready['port']}/healthz", timeout=5)
        half = socket.create_connection(("127.0.0.1", ready["port"]))
        half.sendall(b"PUT /ping HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - began < HEADER_TIMEOUT
        half.close()


def test_a_second_tracker_on_the_same_state_folder_exits_with_one_line(tmp_path: Path) -> None:
    env = write_env(tmp_path)
    with running(env) as (process, ready):
        second = run(env)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1 and "in use by another tracker" in second.stderr
        assert str(process.pid) in second.stderr
        assert requests.get(f"http://127.0.0.1:{ready['port']}/healthz", timeout=5).ok


def test_a_second_tracker_on_the_same_port_exits_with_one_line(tmp_path: Path) -> None:
    with running(write_env(tmp_path)) as (_, ready):
        (tmp_path / "b").mkdir()
        second = run(write_env(tmp_path / "b", SERVER_PORT=ready["port"]))
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1 and second.stderr.endswith(
            f"server: cannot listen on 127.0.0.1:{ready['port']}: address already in use\n"
        )


def test_after_a_kill_sessions_are_known_and_the_index_is_requested_again(tmp_path: Path) -> None:
    with running(write_env(tmp_path)) as (process, ready):
        token = login(ready["port"]).json()["token"]
        process.kill()
        process.wait()
    with running(write_env(tmp_path, SERVER_PORT=ready["port"])) as (_, again):
        ping = requests.put(
            f"http://127.0.0.1:{again['port']}/ping",
            json={"epoch": "old", "index_version": "1"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        assert ping.status_code == 200 and ping.json()["send_index"]


def test_the_tracker_is_one_process_without_children(tmp_path: Path) -> None:
    with running(write_env(tmp_path)) as (process, _):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("this kernel does not tell a process's children")
        assert children.read_text() == ""


def test_faults_of_the_env_file_are_one_line_each_and_exit_78(tmp_path: Path) -> None:
    result = run(write_env(tmp_path, SERVER_PORT="nope", UNKNOWN="x"))
    assert (result.returncode, result.stdout) == (78, "")
    assert len(result.stderr.splitlines()) == 2 and "Traceback" not in result.stderr


def test_without_an_env_file_the_usage_is_printed() -> None:
    result = subprocess.run([sys.executable, str(LAUNCHER)], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")


def test_a_relative_env_file_is_found_in_bootstrap(tmp_path: Path) -> None:
    missing = subprocess.run(
        [sys.executable, LAUNCHER.name, ".env_nowhere"],
        cwd=LAUNCHER.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert missing.returncode == 78 and "bootstrap" in missing.stderr


def test_a_secret_readable_by_other_users_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "secret").write_bytes(os.urandom(32))
    (state / "secret").chmod(0o644)
    result = run(write_env(tmp_path))
    assert result.returncode == 1 and result.stderr.count("\n") == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_entry_is_one_line_for_any_input(tmp_path: Path, log_format: str) -> None:
    with running(write_env(tmp_path, LOG_FORMAT=log_format)) as (process, ready):
        token = login(ready["port"]).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        base = f"http://127.0.0.1:{ready['port']}"
        file: dict[str, Any] = {"name": "a", "id": "0" * 64, "size": 1, "complete": True}
        requests.put(f"{base}/index", json={"version": "1", "files": [file]}, headers=headers, timeout=5)
        requests.get(f"{base}/query?name=a", headers=headers, timeout=5)
        evil = "\r\nFORGED line\x1b[2J\u2028x\u0085y"
        reported = requests.post(
            f"{base}/report", json={"id": "0" * 64, "url": evil, "reason": evil}, headers=headers, timeout=5
        )
        assert reported.ok, reported.text
        process.terminate()
        lines = process.communicate(timeout=10)[1].splitlines()
    assert any("reported" in line for line in lines)
    assert not any(line.startswith("FORGED") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert token not in "".join(lines)
    if log_format == "json":
        assert all(json.loads(line)["level"] for line in lines)


def test_all_routes_use_tls_if_it_is_set(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with running(write_env(tmp_path, TLS_CERT="cert.pem", TLS_KEY="key.pem")) as (process, ready):
        assert login(ready["port"], scheme="https", verify=str(tmp_path / "ca.pem")).status_code == 201
        with pytest.raises(requests.exceptions.SSLError):
            login(ready["port"], scheme="https", verify=True)
        with pytest.raises(requests.exceptions.ConnectionError):
            login(ready["port"])
        process.terminate()
        assert process.wait(10) == 0


def test_a_key_of_another_certificate_is_reported_before_ready(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no certificate\n")
    result = run(write_env(tmp_path, TLS_CERT="cert.pem", TLS_KEY="key.pem"))
    assert result.returncode == 78 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "TLS_CERT" in result.stderr


def test_listening_beyond_loopback_without_tls_logs_a_warning(tmp_path: Path) -> None:
    with running(write_env(tmp_path, SERVER_URL="0.0.0.0")) as (process, _):
        process.terminate()
        err = process.communicate(timeout=10)[1]
    assert sum("no TLS" in line for line in err.splitlines()) == 1


def test_slow_clients_do_not_delay_other_clients(tmp_path: Path) -> None:
    heads = (
        b"PUT /ping HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"PUT /index HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n",
    )
    with live_tracker(tmp_path) as tracker:
        token = login(tracker.port).json()["token"]
        slow = []
        for number in range(300):
            connection = socket.create_connection((tracker.host, tracker.port))
            connection.sendall(heads[number % 3].replace(b"%s", token.encode()) + b"x")
            slow.append(connection)
        headers = {"Authorization": f"Bearer {token}"}
        for _ in range(20):
            for connection in slow:
                connection.sendall(b"x")
            body = {"epoch": "", "index_version": ""}
            # A ping that waited for one of their bodies would wait for SMALL_BODY_TIMEOUT.
            assert requests.put(f"{tracker.url}/ping", json=body, headers=headers, timeout=SMALL_BODY_TIMEOUT / 2).ok
        for connection in slow:
            connection.close()


def test_the_body_of_a_request_without_token_is_not_read(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker, socket.create_connection((tracker.host, tracker.port)) as connection:
        connection.settimeout(5)
        connection.sendall(
            b"PUT /index HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n{"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("declared", [b"Content-Length: 17000000", b"Transfer-Encoding: chunked"])
def test_a_body_over_the_limit_is_refused_and_not_stored(tmp_path: Path, declared: bytes) -> None:
    with live_tracker(tmp_path) as tracker:
        token = login(tracker.port).json()["token"].encode()
        with socket.create_connection((tracker.host, tracker.port)) as connection:
            connection.settimeout(10)
            head = b"PUT /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token
            connection.sendall(head + b"\r\nContent-Type: application/json\r\n" + declared + b"\r\n\r\n")
            if b"chunked" in declared:
                connection.sendall(b"5000\r\n" + b" " * 0x5000 + b"\r\n" + b"5000\r\n" + b" " * 0x5000 + b"\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_accepted(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        chunks = iter([b'{"username": "ana", ', b'"password": "x", ', b'"url": "127.0.0.1:5001"}'])
        answer = requests.post(
            f"{tracker.url}/login", data=chunks, headers={"Content-Type": "application/json"}, timeout=5
        )
        assert answer.status_code == 201


def test_a_flood_of_logins_does_not_delay_pings(tmp_path: Path) -> None:
    with live_tracker(tmp_path, cost=HashCost(2**14, 8, 1)) as tracker:
        token = login(tracker.port).json()["token"]
        stop = threading.Event()
        codes: set[int] = set()
        login_times: list[float] = []

        def flood() -> None:
            while not stop.is_set():
                began = time.monotonic()
                status = login(tracker.port, "ana").status_code
                codes.add(status)
                if status == 200:
                    login_times.append(time.monotonic() - began)

        threads = [threading.Thread(target=flood) for _ in range(30)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(login_times) >= 10)
        ping_times = []
        for _ in range(30):
            began = time.monotonic()
            requests.get(f"{tracker.url}/healthz", timeout=30)
            ping_times.append(time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join()
    # A ping that waited for hashes would take as long as a login.
    assert median(ping_times) < median(login_times) / 2
    assert codes <= {200, 201, 503} and token


def test_pages_of_a_thousand_files_take_less_than_a_second_of_cpu_time(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {login(tracker.port).json()['token']}"
        files: list[Any] = [{"name": f"f{n:04}", "id": f"{n:064x}", "size": n, "complete": True} for n in range(1000)]
        assert session.put(f"{tracker.url}/index", json={"version": "1", "files": files}, timeout=5).ok
        began = time.process_time()
        first = session.get(f"{tracker.url}/files", timeout=30).json()
        second = session.get(f"{tracker.url}/files", params={"after": first["next"]}, timeout=30).json()
        assert len(first["files"]) + len(second["files"]) == 1000 and second["next"] is None
        assert time.process_time() - began < 1


def test_long_bodies_of_one_account_wait_for_each_other_only(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker, ExitStack() as stack:
        token = login(tracker.port).json()["token"]
        head = f"PUT /index HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {16 << 20}\r\n\r\n"
        connections = [
            stack.enter_context(socket.create_connection((tracker.host, tracker.port), timeout=60)) for _ in range(6)
        ]
        sent: list[socket.socket] = []

        def send_body_but_its_last_byte(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.sendall(head.encode() + b" " * ((16 << 20) - 1))
                sent.append(connection)

        for connection in connections:
            threading.Thread(target=send_body_but_its_last_byte, args=(connection,), daemon=True).start()
        eventually(lambda: len(sent) == 2)
        ben = {"username": "ben", "password": "x", "url": "127.0.0.1:5002"}
        other = requests.post(f"{tracker.url}/login", json=ben, timeout=10).json()["token"]
        files: list[Any] = [{"name": f"{n:04}", "id": f"{n:064x}", "size": 1, "complete": True} for n in range(1000)]
        answer = requests.put(
            f"{tracker.url}/index",
            json={"version": "1", "files": files},
            headers={"Authorization": f"Bearer {other}"},
            timeout=10,
        )
        assert answer.status_code == 200
        assert len(sent) == 2, "the tracker does not read the other bodies"
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("declared", [b"Content-Length: 67108864\r\nContent_Length: 5", b"Transfer-Encoding: chunked"])
def test_no_header_raises_the_body_limit_of_a_request_without_token(tmp_path: Path, declared: bytes) -> None:
    with live_tracker(tmp_path) as tracker, socket.create_connection((tracker.host, tracker.port)) as connection:
        connection.sendall(
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + declared + b"\r\n\r\n"
        )
        part = b"10000\r\n" + bytes(0x10000) + b"\r\n" if b"chunked" in declared else bytes(0x10000)
        sent = 0
        # The tracker stops reading, which fills the socket's buffer, or it closes the connection.
        connection.settimeout(2)
        with suppress(OSError):
            while sent < 64 << 20:
                connection.sendall(part)
                sent += len(part)
        assert sent < 32 << 20
        with suppress(ConnectionResetError):
            assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("damage", ["text", "folder", "torn", "empty"])
def test_an_unreadable_database_is_reported_in_one_line(tmp_path: Path, damage: str) -> None:
    accounts = tmp_path / "state" / "accounts.sqlite3"
    accounts.parent.mkdir(0o700)
    if damage == "folder":
        accounts.mkdir()
    else:
        written = {"text": b"no database\n" * 100, "torn": b"SQLite format 3\0" + bytes(100), "empty": b""}
        accounts.write_bytes(written[damage])
    result = run(write_env(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1 and str(accounts) in result.stderr


def test_accounts_of_a_newer_release_end_the_start_with_one_line_and_69(tmp_path: Path) -> None:
    env = write_env(tmp_path)
    with running(env) as (process, ready):
        assert login(ready["port"]).status_code == 201
        process.terminate()
        process.wait(20)
    accounts = tmp_path / "state" / "accounts.sqlite3"
    with closing(sqlite3.connect(accounts)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '0100'")
        db.execute("UPDATE meta SET value = '7.5.0'")
    before = accounts.read_bytes()
    result = run(env)
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in ("release 7.5.0 (state 100)", f"release {VERSION} (state", "restore"))
    assert accounts.read_bytes() == before


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full", "| true"])
def test_if_ready_cannot_be_written_the_tracker_exits_with_one_line(tmp_path: Path, stdout: str) -> None:
    # The reader of the pipe exits before the tracker has started.
    command = f"{{ '{sys.executable}' '{LAUNCHER}' '{write_env(tmp_path)}'; echo $? >&2; }} {stdout}"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    *lines, code = result.stderr.splitlines()
    assert code == "1"
    assert [line for line in lines if "stdout" in line] == lines and len(lines) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_imports_exits_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    launcher = Path(shutil.copy(LAUNCHER, tmp_path))
    # A tracker whose imports last until the signal.
    (tmp_path / "tracker").mkdir()
    (tmp_path / "tracker" / "main.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(20)\n")
    process = subprocess.Popen(
        [sys.executable, str(launcher), "env"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
