"""The env files that come with the checkout, the table of keys and the programs name the same keys."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from programs import PCLIENT, PSERVER, SERVER, TOP, write_env

SHIPPED = (".env_server", ".env_pserver1", ".env_pclient1", ".env_pserver2", ".env_pclient2")
REQUIRED = {
    SERVER: {"SERVER_URL", "SERVER_PORT"},
    PSERVER: {"PSERVER_URL", "PSERVER_LOCAL_URL", "PSERVER_PORT", "SERVER_URL", "SERVER_PORT"},
    PCLIENT: {"PSERVER_URL", "PSERVER_PORT"},
}
OPTIONAL = {
    SERVER: {
        "STATE_DIR",
        "OPEN_REGISTRATION",
        "PING_TIMEOUT",
        "ADVERTISE_CHECK",
        "LOG_FORMAT",
        "TLS_CERT",
        "TLS_KEY",
        "TRUSTED_PROXIES",
    },
    PSERVER: {
        "SHARED_DIR",
        "STATE_DIR",
        "QUOTA",
        "UPLOAD_LIMIT",
        "DOWNLOAD_LIMIT",
        "PING_INTERVAL",
        "PART_KEEP",
        "METRICS_PORT",
        "LOG_FORMAT",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_CA",
    },
    PCLIENT: {"STATE_DIR", "TLS_CA"},
}
PROGRAMS = (SERVER, PSERVER, PCLIENT)


def script(shipped: str) -> Path:
    """The program that an env file is for."""
    return {"s": SERVER, "p": PSERVER, "c": PCLIENT}[shipped.removeprefix(".env_").replace("pc", "c")[0]]


def refusal(program: Path, env: Path) -> str:
    """What a program says of an env file that it refuses."""
    done = subprocess.run([sys.executable, program, env], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78, done
    return done.stderr


@pytest.mark.parametrize("shipped", SHIPPED)
def test_a_shipped_file_has_the_keys_it_must_have_and_known_ones(shipped: str) -> None:
    keys = set(dotenv_values(TOP / "bootstrap" / shipped, interpolate=False))
    assert REQUIRED[script(shipped)] <= keys <= REQUIRED[script(shipped)] | OPTIONAL[script(shipped)]


def test_the_shipped_files_agree_on_addresses() -> None:
    values = {name: dotenv_values(TOP / "bootstrap" / name, interpolate=False) for name in SHIPPED}
    assert values[".env_server"]["SERVER_PORT"] == "5000"
    for number in "12":
        daemon, terminal = values[f".env_pserver{number}"], values[f".env_pclient{number}"]
        assert daemon["SERVER_PORT"] == "5000"
        assert daemon["PSERVER_PORT"] == terminal["PSERVER_PORT"] == f"500{number}"


# A key of each kind that every program has.
HOST_KEY = {SERVER: "SERVER_URL", PSERVER: "PSERVER_LOCAL_URL", PCLIENT: "PSERVER_URL"}
PORT_KEY = {SERVER: "SERVER_PORT", PSERVER: "SERVER_PORT", PCLIENT: "PSERVER_PORT"}


def reported(program: Path, env: Path) -> set[str]:
    """The faults that a program reports, without its own name and with the path of the file as PATH."""
    lines = refusal(program, env).splitlines()
    prefix = "error: " if program == PCLIENT else f"{program.stem}: "
    assert all(line.startswith(prefix) for line in lines), lines
    return {line.removeprefix(prefix).replace(str(env), "PATH") for line in lines}


def known_keys(program: Path) -> set[str]:
    """All keys of a program's env file."""
    return REQUIRED[program] | OPTIONAL[program]


def good_values(program: Path) -> dict[str, str]:
    """The required keys of a program, with good values."""
    return {key: "1" if key.endswith("_PORT") else "127.0.0.1" for key in REQUIRED[program]}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_all_programs_report_a_fault_with_the_same_words(program: Path, tmp_path: Path) -> None:
    host, port = HOST_KEY[program], PORT_KEY[program]
    good = "".join(f"{key}={value}\n" for key, value in good_values(program).items() if key not in (host, port))
    env = tmp_path / ".env"
    env.write_text(f"STATE_DIR\n{host}=http://x\n{port}=70000\nSTATE_DIRR=s\nQUX=y\n{port}=1\n{good}")
    assert reported(program, env) == {
        "PATH: line 1: should be KEY=value",
        f"PATH: {host}: 'http://x' should be a host name or an IP address, without http:// and without a port",
        f"PATH: {port}: '70000' should be a port, 0 to 65535",
        f"PATH: {port}: '1' should be given once only",
        "PATH: STATE_DIRR: 's': unknown key; did you mean STATE_DIR?",
        "PATH: QUX: 'y': unknown key",
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_all_programs_report_a_missing_key_a_binary_and_a_missing_file_with_the_same_words(
    program: Path, tmp_path: Path
) -> None:
    empty = write_env(tmp_path / ".env", {})
    assert f"PATH: {PORT_KEY[program]}: missing; should be a port, 0 to 65535" in reported(program, empty)
    assert len(reported(program, empty)) == len(REQUIRED[program])
    binary = tmp_path / ".env_binary"
    binary.write_bytes(b"\xff\xfe")
    assert reported(program, binary) == {"PATH: not UTF-8 text"}
    assert reported(program, tmp_path / "none") == {f"PATH: no such env file (looked in {tmp_path})"}


@pytest.mark.parametrize("program", [SERVER, PSERVER], ids=lambda path: path.stem)
def test_the_programs_that_listen_report_tls_faults_with_the_same_words(program: Path, tmp_path: Path) -> None:
    good = good_values(program)
    text = tmp_path / "text.pem"
    text.write_text("not a certificate")
    faults = []
    for tls in (
        {"TLS_CERT": "missing.pem"},
        {"TLS_CERT": "text.pem", "TLS_KEY": "text.pem"},
    ):
        faults.append(reported(program, write_env(tmp_path / ".env", good | tls | {"LOG_FORMAT": "xml"})))
    bad_format = "PATH: LOG_FORMAT: 'xml' should be text or json"
    assert faults == [
        {
            bad_format,
            f"PATH: TLS_CERT: '{tmp_path}/missing.pem' should be a file that exists",
            "PATH: TLS_CERT: should be given together with TLS_KEY",
        },
        {
            bad_format,
            f"PATH: TLS_CERT: '{text}' should be a certificate in PEM, with those that lead to its authority",
        },
    ]


@pytest.mark.parametrize(
    ("program", "other", "fault"),
    [
        (SERVER, PSERVER, "this is a pserver env file; server needs its own"),
        (SERVER, PCLIENT, "this is a pclient env file; server needs its own"),
        (PSERVER, SERVER, "this is a server env file; pserver needs its own"),
        (PCLIENT, SERVER, "this is a server env file; pclient needs its own"),
        (PCLIENT, PSERVER, "this is a pserver env file; the pclient env file comes first"),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_a_program_recognizes_the_env_file_of_another_one(
    program: Path, other: Path, fault: str, tmp_path: Path
) -> None:
    every_key = dict.fromkeys(known_keys(other), "1")
    assert reported(program, write_env(tmp_path / ".env", every_key)) == {f"PATH: {fault}"}


@pytest.mark.parametrize("program", [SERVER, PSERVER], ids=lambda path: path.stem)
def test_the_programs_that_listen_report_a_port_in_use_with_the_same_words(program: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        values = good_values(program) | {"STATE_DIR": str(tmp_path / "state"), "SHARED_DIR": str(tmp_path / "shared")}
        values |= {"SERVER_PORT" if program == SERVER else "PSERVER_PORT": str(port)}
        env = write_env(tmp_path / ".env", {key: value for key, value in values.items() if key in known_keys(program)})
        done = subprocess.run([sys.executable, program, env], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    last_line = done.stderr.splitlines()[-1]
    assert last_line == f"{program.stem}: cannot listen on 127.0.0.1:{port}: address already in use"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_knows_every_key_of_the_contract(program: Path, tmp_path: Path) -> None:
    values = dict.fromkeys(known_keys(program), "nonsense !")
    said = refusal(program, write_env(tmp_path / ".env", values | {"NO_SUCH_KEY": "1"}))
    unknown = [line for line in said.splitlines() if "unknown" in line.lower()]
    assert len(unknown) == 1, said
    assert "NO_SUCH_KEY" in unknown[0]


def test_the_configuration_page_lists_every_key() -> None:
    table = (TOP / "docs" / "configuration.md").read_text()
    listed = set(re.findall(r"(?m)^\| `([A-Z_]+)`", table))
    assert listed == set().union(*REQUIRED.values(), *OPTIONAL.values())
