"""The scripts find a Python by trying, and say in one line what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from programs import TOP

SHIM = '#!/bin/sh\necho "pyenv: $0: command not found" >&2\nexit 127\n'
OLD = "#!/bin/sh\nexit 1\n"
WITHOUT_VENV = f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'
GOOD = f'#!/bin/sh\nexec {sys.executable} "$@"\n'


def find_python(folder: Path, **candidates: str) -> "subprocess.CompletedProcess[str]":
    """What bootstrap/environment.sh finds when these are all the Pythons on PATH (python3_12 stands for python3.12)."""
    for name, script in candidates.items():
        path = folder / name.replace("_", ".")
        path.write_text(script)
        path.chmod(0o755)
    return subprocess.run(
        [shutil.which("sh") or "sh", "-c", '. bootstrap/environment.sh; find_python; echo "$python"'],
        cwd=TOP,
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_shim_that_fails_is_passed_over(tmp_path: Path) -> None:
    found = find_python(tmp_path, python3_14=SHIM, python3_12=GOOD, python3=OLD)
    assert (found.returncode, found.stdout) == (0, "python3.12\n"), found


def test_a_python_without_venv_is_passed_over_for_one_with(tmp_path: Path) -> None:
    found = find_python(tmp_path, python3_12=WITHOUT_VENV, python3_11=GOOD)
    assert (found.returncode, found.stdout) == (0, "python3.11\n"), found


@pytest.mark.parametrize(
    ("candidates", "advice"),
    [
        ({"python3_12": WITHOUT_VENV}, "sudo apt install python{}.{}-venv".format(*sys.version_info)),
        ({"python3": OLD}, "Python 3.11 or newer is needed"),
        ({}, "Python 3.11 or newer is needed"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, candidates: dict[str, str], advice: str) -> None:
    found = find_python(tmp_path, **candidates)
    assert found.returncode == 69, found
    [line] = found.stderr.splitlines()
    assert advice in line


def test_an_environment_that_is_up_to_date_needs_nothing_more() -> None:
    script = '. bootstrap/environment.sh; find_python() { echo "looked"; exit 1; }; prepare; echo prepared'
    done = subprocess.run(["sh", "-c", script], cwd=TOP, capture_output=True, text=True, check=False)
    if not any((TOP / ".venv" / name).exists() for name in ("synced", "synced-dev")):
        pytest.skip("this environment was not made by bootstrap/test")
    assert done.stdout == "prepared\n", done
