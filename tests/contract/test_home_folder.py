"""`~` and `$HOME` at the start of a path of an env file, read in the same way by the tracker and the peer."""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import common.home_folder
import tracker.home_folder
from programs import PCLIENT, PSERVER, SERVER, write_env

HOME = Path("/home/ana")
MODULES = pytest.mark.parametrize(
    "module", [common.home_folder, tracker.home_folder], ids=lambda module: module.__name__.partition(".")[0]
)


@MODULES
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home/ana"),
        ("~/x/y", "/home/ana/x/y"),
        ("$HOME", "/home/ana"),
        ("$HOME/x", "/home/ana/x"),
        ("${HOME}/x y", "/home/ana/x y"),
        (f"~{pwd.getpwuid(0).pw_name}/x", f"{pwd.getpwuid(0).pw_dir}/x"),
        ("/srv/a", "/srv/a"),
        ("a/~/b", "a/~/b"),
        ("a~b/c$d/e$/$/$5", "a~b/c$d/e$/$/$5"),
    ],
)
def test_the_home_folder_is_expanded_at_the_start_of_a_path(module: ModuleType, text: str, path: str) -> None:
    assert module.path_fault(text, HOME) == ""
    assert module.expand(text, HOME) == Path(path)


@MODULES
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("$HOMER/x", "only $HOME"),
        ("$XDG_DATA_HOME/x", "only $HOME"),
        ("${USER}", "only $HOME"),
        ("/srv/$USER", "only $HOME"),
        ("/srv/$HOME", "at the start"),
        ("~/$USER", "only $HOME"),
        ("~no such user/x", "no user"),
        ("a\0b", "a path"),
    ],
)
def test_nothing_else_is_expanded_and_the_fault_says_so(module: ModuleType, text: str, part: str) -> None:
    assert part in module.path_fault(text, HOME)
    with pytest.raises(ValueError):
        module.expand(text, HOME)


@MODULES
@pytest.mark.parametrize("text", ["~", "~/x", "$HOME/x", "${HOME}"])
def test_without_a_home_folder_an_absolute_path_is_needed(module: ModuleType, text: str) -> None:
    assert "no home folder" in module.path_fault(text, None)
    assert module.path_fault("/srv/x", None) == ""


@MODULES
def test_the_home_folder_is_that_of_HOME_or_of_the_user(module: ModuleType) -> None:
    assert module.home_folder({"HOME": "/elsewhere"}) == Path("/elsewhere")
    own = pwd.getpwuid(os.getuid()).pw_dir
    assert module.home_folder({}) == module.home_folder({"HOME": ""}) == Path(own)
    assert module.home_folder({"HOME": "relative"}) is None


KEYS = {
    SERVER: {"SERVER_URL": "127.0.0.1", "SERVER_PORT": "0"},
    PSERVER: {
        "PSERVER_URL": "127.0.0.1",
        "PSERVER_LOCAL_URL": "127.0.0.1",
        "PSERVER_PORT": "5001",
        "SERVER_URL": "127.0.0.1",
        "SERVER_PORT": "5000",
    },
    PCLIENT: {"PSERVER_URL": "127.0.0.1", "PSERVER_PORT": "5001"},
}


@pytest.mark.parametrize("program", [SERVER, PSERVER, PCLIENT], ids=lambda path: path.stem)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_the_programs_report_a_variable_in_the_same_words(program: Path, tmp_path: Path, quote: str) -> None:
    env = write_env(tmp_path / ".env", KEYS[program] | {"STATE_DIR": f"{quote}$XDG_STATE_HOME/x{quote}"})
    done = subprocess.run([sys.executable, program, env], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert line.endswith(
        f"{env}: STATE_DIR: '$XDG_STATE_HOME/x' should be a path; of all variables only $HOME is expanded, at the start"
    )
