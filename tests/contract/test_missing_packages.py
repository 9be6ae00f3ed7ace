"""A Python without the packages: each program says so in one line, with the command to run."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pexpect
import pytest

from common import launch_commands as peer
from programs import PCLIENT, PSERVER, SERVER, TOP
from tracker import launch_commands as server

# What each program imports first.
FIRST = {SERVER: "flask", PSERVER: "python-dotenv", PCLIENT: "python-dotenv"}
PROGRAMS = pytest.mark.parametrize("program", FIRST, ids=lambda program: program.name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The programs in a folder without .venv."""
    for folder in ("server", "peer"):
        shutil.copytree(TOP / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(checkout: Path, program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program without the folder of installed packages."""
    command = [sys.executable, "-S", str(program.relative_to(TOP)), *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False, timeout=30)


@PROGRAMS
def test_a_missing_package_is_reported_in_one_line(checkout: Path, program: Path) -> None:
    done = run(checkout, program, "my env")
    command = f".venv/bin/python {program.relative_to(TOP)} 'my env'"
    who = {SERVER: "server", PSERVER: "pserver", PCLIENT: "error"}[program]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{who}: {sys.executable} has no package {FIRST[program]};"
        f" run bootstrap/demo or pipenv install first, then: {command}\n"
    )


@PROGRAMS
def test_with_an_environment_the_line_is_the_command_to_run(checkout: Path, program: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").touch()
    line = run(checkout, program, ".env").stderr
    command = shlex.split(line.partition("; run: ")[2])
    assert command == [".venv/bin/python", str(program.relative_to(TOP)), ".env"]


def test_a_missing_package_is_json_for_pclient(checkout: Path) -> None:
    done = run(checkout, PCLIENT, ".env", "status", "--json")
    [error] = json.loads(done.stdout).values()
    assert (done.returncode, done.stderr, error["code"]) == (1, "", "internal")
    assert "has no package python-dotenv" in error["message"]


@pytest.mark.parametrize(("module", "package"), [("grpc", "grpcio"), ("rich", "rich")])
def test_a_package_that_pclient_imports_later_is_reported_too(checkout: Path, module: str, package: str) -> None:
    hidden = checkout / "sitecustomize.py"
    hidden.write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    (checkout / ".env").write_text(f"PSERVER_URL=127.0.0.1\nPSERVER_PORT=1\nSTATE_DIR={checkout}\n")
    terminal = pexpect.spawn(
        sys.executable,
        ["peer/pclient.py", ".env", "status"],
        cwd=str(checkout),
        env={**os.environ, "PYTHONPATH": str(checkout)},
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 1000),
    )
    terminal.expect(pexpect.EOF)
    [line] = (terminal.before or "").splitlines()
    terminal.close()
    assert terminal.exitstatus == 1
    assert line.startswith(f"error: {sys.executable} has no package {package}; run ")


def test_the_packages_of_modules_are_right() -> None:
    installed = packages_distributions()
    for module, package in {**peer.PACKAGES, **server.PACKAGES}.items():
        assert package in [name.replace("_", "-") for name in installed[module]]
    assert server.PACKAGES.items() <= peer.PACKAGES.items()
