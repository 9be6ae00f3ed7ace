"""The launchers, with the env files of the checkout and from inside its folders."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from common.version import PROTOCOL, VERSION
from eventually import eventually
from programs import PSERVER, SERVER, TOP
from system.cluster import Cluster


@pytest.fixture
def tracker(checkout: Path, environment: dict[str, str]) -> Iterator[None]:
    """`python server.py .env_server`, typed inside server/."""
    process = subprocess.Popen(
        [sys.executable, "server.py", ".env_server"],
        cwd=checkout / "server",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("READY {")
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()


def menu(checkout: Path, environment: dict[str, str], number: int) -> "pexpect.spawn[str]":
    """`python pclient.py .env_pclientN .env_pserverN`, typed inside peer/."""
    arguments = ["pclient.py", f".env_pclient{number}", f".env_pserver{number}"]
    where = str(checkout / "peer")
    terminal = pexpect.spawn(
        sys.executable, arguments, cwd=where, env=environment, encoding="utf-8", timeout=60, dimensions=(40, 120)
    )
    terminal.expect("Enter username: ")
    terminal.sendline(f"user{number}")
    terminal.expect("Enter password: ")
    terminal.sendline("secret")
    terminal.expect_exact("[y/N] ")
    terminal.sendline("y")
    terminal.expect("Enter password again: ")
    terminal.sendline("secret")
    terminal.expect("Logged in as")
    return terminal


@pytest.mark.usefixtures("tracker")
def test_the_env_files_of_the_checkout_work_from_inside_its_folders(
    checkout: Path, environment: dict[str, str]
) -> None:
    first, second = menu(checkout, environment, 1), menu(checkout, environment, 2)
    (checkout / "peer" / "hello.txt").write_text("hello\n")

    first.expect("Enter choice: ")
    first.sendline("1")
    first.expect("Enter file name: ")
    first.sendline("hello.txt")
    first.expect("File uploaded")
    (checkout / "peer" / "again.txt").write_text("again\n")
    second.expect("Enter choice: ")
    second.sendline("2")
    second.expect("Enter file name: ")
    second.sendline("hello.txt")
    second.expect(["File downloaded", "File already exists"])

    copies = list(Path(environment["HOME"]).rglob("hello.txt"))
    assert [each.read_text() for each in copies] == ["hello\n"] * 2
    for terminal in (first, second):
        terminal.expect("Enter choice: ")
        terminal.sendline("0")
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0


@pytest.mark.usefixtures("tracker")
def test_a_pserver_started_by_pclient_stops_when_pclient_is_killed(checkout: Path, environment: dict[str, str]) -> None:
    terminal = menu(checkout, environment, 1)
    [port_file] = [path for path in Path(environment["HOME"]).rglob("port") if path.is_file()]
    port = int(port_file.read_text())
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass

    terminal.kill(signal.SIGKILL)

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(gone)
    terminal.close(force=True)


LAUNCHERS = {"server/server.py": ".env_server", "peer/pserver.py": ".env_pserver1"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ready_has_the_address_and_the_release_of_the_program(
    launcher: str, checkout: Path, environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, launcher, LAUNCHERS[launcher]],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    word, _, rest = process.stdout.readline().partition(" ")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()
    ready = json.loads(rest)
    assert word == "READY"
    assert ready["host"] == "127.0.0.1"
    assert f"_PORT={ready['port']}\n" in (checkout / "bootstrap" / LAUNCHERS[launcher]).read_text()
    assert ready["pid"] == process.pid
    assert ready["version"] == VERSION
    assert ready["protocol"] == list(PROTOCOL)


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "peer/pclient.py"])
def test_every_program_prints_its_version(launcher: str) -> None:
    done = subprocess.run(
        [sys.executable, TOP / launcher, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{VERSION}\n", "")


def test_an_unwritable_stdout_at_start_is_one_line_and_exit_74(checkout: Path, environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, checkout / "peer" / "pserver.py", ".env_pserver1"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr.splitlines()[-1] == "pserver: READY cannot be written to stdout: No space left on device"
    assert "Traceback" not in done.stderr
    assert [path for path in Path(environment["HOME"]).rglob("*") if path.name in {"port", "cookie"}] == []


def test_a_fault_in_an_env_file_is_one_line_and_exit_78(tmp_path: Path) -> None:
    env = tmp_path / ".env_broken"
    env.write_text("SERVER_URL=127.0.0.1\nSERVER_PORT=seventy\nSTATE_DIRR=/tmp\n")
    for script in ("server/server.py", "peer/pserver.py", "peer/pclient.py"):
        done = subprocess.run([sys.executable, TOP / script, env], capture_output=True, text=True, check=False)
        assert done.returncode == 78, done
        assert "STATE_DIRR" in done.stderr
        assert str(env) in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("script", ["server/server.py", "peer/pserver.py", "peer/pclient.py"])
def test_help_goes_to_stdout(script: str, option: str) -> None:
    done = subprocess.run([sys.executable, TOP / script, option], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_a_missing_env_file_is_exit_78() -> None:
    for script in ("server/server.py", "peer/pserver.py", "peer/pclient.py"):
        done = subprocess.run(
            [sys.executable, TOP / script, "no-such-env"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 78, done
        assert "no-such-env" in done.stderr


@pytest.mark.parametrize("name", ["tracker", "ana"])
def test_a_second_program_on_one_state_folder_refuses_to_start(cluster: Cluster, name: str) -> None:
    if name == "ana":
        cluster.peer("ana", login=False)
    script, port_key = (SERVER, "SERVER_PORT") if name == "tracker" else (PSERVER, "PSERVER_PORT")
    env = cluster.folder / f".env_{name}"
    second = cluster.folder / ".env_second"
    second.write_text(re.sub(rf"(?m)^{port_key}=\d+$", f"{port_key}=0", env.read_text()))

    done = subprocess.run([sys.executable, script, second], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode not in (0, -signal.SIGKILL), done
    assert done.stdout == ""
    assert str(cluster.folder) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tracker", "ana"])
def test_a_second_program_on_one_port_refuses_to_start(cluster: Cluster, tmp_path: Path, name: str) -> None:
    if name == "ana":
        cluster.peer("ana", login=False)
    script = SERVER if name == "tracker" else PSERVER
    second = cluster.folder / ".env_second"
    text = (cluster.folder / f".env_{name}").read_text()
    text = re.sub(r"(?m)^(STATE_DIR|SHARED_DIR)=.*$", lambda found: f"{found[1]}={tmp_path / found[1]}", text)
    second.write_text(text)

    done = subprocess.run([sys.executable, script, second], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode not in (0, -signal.SIGKILL), done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def signalled(folder: Path, module: str, source: str, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a launcher whose import of `module` executes `source`."""
    (folder / f"{module}.py").write_text(source)
    return subprocess.run(
        [sys.executable, TOP / script, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("script", "adds"), [("peer/pclient.py", 128), ("peer/pserver.py", None)])
def test_a_signal_during_the_start_is_no_traceback(
    tmp_path: Path, script: str, adds: int | None, number: signal.Signals
) -> None:
    source = f"import os\nos.kill(os.getpid(), {int(number)})\n"
    done = signalled(tmp_path, "dotenv", source, script, "no-such-env")
    assert (done.returncode, done.stderr) == (0 if adds is None else adds + number, "")


def test_ctrl_c_during_the_start_of_pclient_is_exit_130_without_output(tmp_path: Path) -> None:
    # An import that swallows KeyboardInterrupt must not make pclient continue.
    source = f"import os\ntry:\n    os.kill(os.getpid(), {int(signal.SIGINT)})\nexcept KeyboardInterrupt:\n    pass\n"
    done = signalled(tmp_path, "grpc", source, "peer/pclient.py", ".env_pclient1", "status")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("script", ["peer/pclient.py", "peer/pserver.py"])
def test_a_signal_during_exit_changes_no_status(tmp_path: Path, script: str) -> None:
    source = f"import atexit, os\natexit.register(lambda: [os.kill(os.getpid(), {int(signal.SIGINT)}), 'and on'])\n"
    done = signalled(tmp_path, "sitecustomize", source, script, "--help")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
