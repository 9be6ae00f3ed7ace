"""Commands that a message of a program suggests. Imports the standard library only: packages may be missing.

The tracker has the same words (server/tracker/launch_commands.py).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

# Modules whose package has another name.
PACKAGES = {
    "dotenv": "python-dotenv",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "prometheus_client": "prometheus-client",
}


def launch_command(python: Path, launcher: Path, *arguments: str) -> str:
    """Return the command that runs a launcher, with paths relative to the current folder where that is possible."""
    return shlex.join([relative(python), relative(launcher), *arguments])


def missing_package_message(error: ModuleNotFoundError, launcher: Path) -> str:
    """Return one line that names the package that this Python lacks, and the command to run.

    Args:
        error: The failed import.
        launcher: The absolute path of the program, in a folder of the checkout.
    """
    module = error.name or str(error)
    package = PACKAGES.get(module.partition(".")[0], module)
    top = launcher.parents[1]
    python = top / ".venv" / "bin" / "python"
    command = launch_command(python, launcher, *sys.argv[1:])
    if python.exists() and python != Path(sys.executable):
        advice = f"run: {command}"
    else:
        demo = shlex.quote(relative(top / "bootstrap" / "demo"))
        advice = f"run {demo} or pipenv install first, then: {command}"
    return f"{sys.executable} has no package {package}; {advice}"


def relative(path: Path) -> str:
    """The path relative to the current folder, if it is inside; else the absolute path."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        # Not inside, or the current folder was removed.
        return str(path)
