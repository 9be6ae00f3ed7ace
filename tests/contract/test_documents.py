"""README tells the truth: routes, RPCs, exit codes, commands and paths that it names are there, and none is missing."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import common.version
import pserver_pb2 as pb
import tracker
from programs import PCLIENT, TOP, write_env
from tracker.routes import ROUTES

# Contract: exit status by code.
EXITS = {
    "internal": 1,
    "bad_usage": 2,
    "bad_name": 2,
    "ambiguous_name": 2,
    "no_such_file": 66,
    "tracker_unreachable": 69,
    "pserver_unreachable": 69,
    "no_active_peer": 69,
    "target_exists": 73,
    "disk_full": 74,
    "quota": 74,
    "io": 74,
    "interrupted": 75,
    "no_holders": 75,
    "not_verified": 76,
    "login_refused": 77,
    "not_logged_in": 77,
    "not_allowed": 77,
    "bad_env": 78,
}
COMMANDS = ("login", "logout", "passwd", "upload", "download", "files", "peers", "status", "remove")


@pytest.fixture(scope="module")
def readme() -> str:
    return (TOP / "README.md").read_text()


def section(readme: str, title: str) -> str:
    """The text of one section, its subsections included."""
    [found] = re.findall(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme)
    return str(found)


def test_the_table_of_exit_codes_is_the_contracts(readme: str) -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|([^|]*)\|", section(readme, "Exit codes"))
    listed = {code: int(status) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}
    assert listed == EXITS


def test_every_rpc_is_in_the_table_of_rpcs(readme: str) -> None:
    text = section(readme, "What changed from the original")
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"`{method.name}`" in text, method.full_name


def test_every_route_is_in_the_table_and_shown_with_curl(readme: str) -> None:
    text = section(readme, "The tracker's routes")
    listed = re.findall(r"(?m)^\| `([A-Z]+) (/[a-z./]*)` \|", text)
    assert set(listed) == {(route.method, route.path) for route in ROUTES}
    shown = set(re.findall(r'(?m)^    curl .*\$T(/[a-z./]*)"?(?:\?|$)', text))
    assert shown == {route.path for route in ROUTES} - {"/"}


def test_every_command_and_global_option_is_described(readme: str, tmp_path: Path) -> None:
    env = write_env(tmp_path / ".env", {"PSERVER_URL": "127.0.0.1", "PSERVER_PORT": 1})
    done = subprocess.run([sys.executable, PCLIENT, env, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", done.stdout)
        assert re.search(rf"`{command}\b", readme)
    for option in ("--json", "--quiet", "--version", "--help"):
        assert option in done.stdout
        assert option in readme


def test_a_usage_fault_is_one_json_object(tmp_path: Path) -> None:
    env = write_env(tmp_path / ".env", {"PSERVER_URL": "127.0.0.1", "PSERVER_PORT": 1})
    for words in (["--json", "frobnicate"], ["download", "--json"], ["upload", "--json", "x", "--copies", "many"]):
        done = subprocess.run([sys.executable, PCLIENT, env, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done
        [line] = done.stdout.splitlines()
        error: dict[str, Any] = json.loads(line)["error"]
        assert error["code"] == "bad_usage"
        assert error["message"]


def test_every_path_that_readme_names_is_there(readme: str) -> None:
    for path in re.findall(r"`((?:bootstrap|tests|server|peer|protobufs)/[\w./-]*)`", readme):
        assert (TOP / path).exists(), path
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme):
        assert (TOP / target).exists(), target


def test_tracker_and_peer_are_of_one_version() -> None:
    assert tracker.VERSION == common.version.VERSION
