"""The user's home folder, and the paths of the env file that begin with it. Reads HOME, and else the list of users."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

NO_HOME = "this user has no home folder"

_HOME = re.compile(r"(?:~|\$HOME|\$\{HOME\})(?=/|\Z)")
_VARIABLE = re.compile(r"(?:\A|/)\$[A-Za-z_{]")


def home_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the home folder; None for a user without HOME and without an entry in the list of users."""
    home = environment.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if home.startswith("/") else None


def path_fault(text: str, home: Path | None) -> str:
    """Return what the text of a path should be instead; empty if `expand` can read it."""
    at_home = _HOME.match(text)
    if "\0" in text:
        return "a path"
    if at_home and home is None:
        return f"an absolute path, because {NO_HOME}"
    if _VARIABLE.search(text, at_home.end() if at_home else 0):
        return "a path; of all variables only $HOME is expanded, at the start"
    if not at_home and text.startswith("~") and _home_of(text) is None:
        return "a path; there is no user of that name"
    return ""


def expand(text: str, home: Path | None) -> Path:
    """Return a path with `~`, `~user`, `$HOME` or `${HOME}` at its start expanded.

    Raises:
        ValueError: `path_fault` says why.
    """
    if path_fault(text, home):
        raise ValueError(text)
    at_home = _HOME.match(text)
    if at_home:
        return Path(f"{home}{text[at_home.end() :]}")
    if text.startswith("~"):
        return Path(f"{_home_of(text)}/{text.partition('/')[2]}")
    return Path(text)


def _home_of(text: str) -> str | None:
    """Return the home folder of the user in `~user/...`; None if there is no such user."""
    try:
        return pwd.getpwnam(text.partition("/")[0][1:]).pw_dir
    except (KeyError, ValueError):
        return None
