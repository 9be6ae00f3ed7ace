"""The env files that come with the checkout, the table of keys and the programs name the same keys."""

import re
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
    SERVER: {"STATE_DIR", "OPEN_REGISTRATION", "PING_TIMEOUT", "ADVERTISE_CHECK", "LOG_FORMAT", "TLS_CERT", "TLS_KEY"},
    PSERVER: {
        "SHARED_DIR",
        "STATE_DIR",
        "QUOTA",
        "UPLOAD_LIMIT",
        "DOWNLOAD_LIMIT",
        "PING_INTERVAL",
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


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_missing_key_and_every_unknown_one_is_named_at_once(program: Path, tmp_path: Path) -> None:
    said = refusal(program, write_env(tmp_path / ".env", {"STATE_DIRR": "x", "QUX": "y"}))
    for key in REQUIRED[program]:
        assert re.search(rf"\b{key}\b", said), said
    assert "STATE_DIR" in said.replace("STATE_DIRR", "")
    assert "QUX" in said


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_knows_every_key_of_the_contract(program: Path, tmp_path: Path) -> None:
    values = dict.fromkeys(REQUIRED[program] | OPTIONAL[program], "nonsense !")
    said = refusal(program, write_env(tmp_path / ".env", values | {"NO_SUCH_KEY": "1"}))
    unknown = [line for line in said.splitlines() if "unknown" in line.lower()]
    assert len(unknown) == 1, said
    assert "NO_SUCH_KEY" in unknown[0]


def test_the_configuration_page_lists_every_key() -> None:
    table = (TOP / "docs" / "configuration.md").read_text()
    listed = set(re.findall(r"(?m)^\| `([A-Z_]+)`", table))
    assert listed == set().union(*REQUIRED.values(), *OPTIONAL.values())
