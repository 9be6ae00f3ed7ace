"""The documents match the programs: routes, RPCs, exit codes, commands, limits, paths and links."""

import importlib
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
from cli.arguments import COMMANDS
from cli.menu import ENTRIES
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
    "incompatible": 69,
    "target_exists": 73,
    "disk_full": 74,
    "quota": 74,
    "io": 74,
    "interrupted": 75,
    "no_holders": 75,
    "not_verified": 76,
    "login_refused": 77,
    "unknown_user": 77,
    "not_logged_in": 77,
    "not_allowed": 77,
    "bad_env": 78,
}
GLOBAL_OPTIONS = ("--json", "--quiet", "--version", "--help")
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("tests/**/*.md")])
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1, "days": 86400}
README_LINES_MAX = 200
PICTURE_BYTES_MAX = 300_000


def page(name: str) -> str:
    return (TOP / name).read_text()


def section(text: str, title: str) -> str:
    """The text below one heading of the second level."""
    [found] = re.findall(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text)
    return str(found)


def anchors(path: Path) -> set[str]:
    """What a link may name after a `#`: GitHub makes it from each heading."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def constant(dotted: str) -> object:
    """The value of `package.module.NAME` or `package.module.Class.attribute`."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(f"no such module: {dotted}")


def run_pclient(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    env = write_env(folder / ".env", {"PSERVER_URL": "127.0.0.1", "PSERVER_PORT": 1})
    return subprocess.run([sys.executable, PCLIENT, env, *words], capture_output=True, text=True, check=False)


def test_the_exit_code_table_is_the_contract() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|([^|]*)\|", section(page("docs/cli.md"), "Exit codes"))
    listed = {code: int(status) for status, codes in rows for code in re.findall(r"`([a-z_]+)`", codes)}
    assert listed == EXITS


def test_every_rpc_is_in_the_history() -> None:
    text = page("docs/history.md")
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"`{method.name}`" in text, method.full_name


def test_every_route_is_in_the_table_and_shown_with_curl() -> None:
    text = page("docs/tracker-api.md")
    listed = re.findall(r"(?m)^\| `([A-Z]+) (/[a-z./]*)` \|", section(text, "Routes"))
    assert set(listed) == {(route.method, route.path) for route in ROUTES}
    shown = set(re.findall(r'(?m)^    curl .*\$T(/[a-z./]*)"?(?:\?|$)', section(text, "With curl")))
    assert shown == {route.path for route in ROUTES} - {"/"}


@pytest.mark.parametrize("name", ["README.md", "docs/cli.md"])
def test_every_command_is_in_the_command_table(name: str) -> None:
    listed = re.findall(r"(?m)^\| `([a-z]+)[^`]*` \|", section(page(name), "Commands"))
    assert listed == list(COMMANDS)


def test_help_and_the_page_name_the_same_options(tmp_path: Path) -> None:
    text = page("docs/cli.md")
    for command in ("", *COMMANDS):
        done = run_pclient(tmp_path, *filter(None, (command, "--help")))
        assert done.returncode == 0, done
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", done.stdout))
        assert set(GLOBAL_OPTIONS) <= options
        assert options <= set(re.findall(r"(?<![\w-])--[a-z-]+", text)), command


def test_the_page_of_commands_shows_the_menu() -> None:
    rows = re.findall(r"(?m)^\| (\d) \| ", section(page("docs/cli.md"), "Menu"))
    assert rows == [*(entry.key for entry in ENTRIES), "0"]


def test_a_usage_fault_is_one_json_object(tmp_path: Path) -> None:
    for words in (["--json", "frobnicate"], ["download", "--json"], ["upload", "--json", "x", "--copies", "many"]):
        done = run_pclient(tmp_path, *words)
        assert done.returncode == 2, done
        [line] = done.stdout.splitlines()
        error: dict[str, Any] = json.loads(line)["error"]
        assert error["code"] == "bad_usage"
        assert error["message"]


def test_every_limit_has_its_constant_and_its_value() -> None:
    rows = re.findall(r"(?m)^\| .* \| ([^|]*) \| `([\w.]+)` \|$", page("docs/limits.md"))
    assert len(rows) > 50
    for limit, dotted in rows:
        value = constant(dotted)
        if not limit.strip():
            continue
        number, _, unit = limit.partition(" ")
        assert float(number.replace(",", "")) * UNITS[unit] == value, (limit, dotted, value)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_path_and_link_of_a_page_exists(path: Path) -> None:
    text = path.read_text()
    for named in re.findall(r"`\.?/?((?:bootstrap|tests|server|peer|protobufs|docs)/[\w./-]*)`", text):
        assert (TOP / named).exists(), named
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text) + re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', text)
    for link in links:
        target, _, anchor = link.partition("#")
        found = path.parent / target if target else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found), link


def test_every_page_is_linked_from_readme() -> None:
    text = page("README.md")
    for path in TOP.glob("docs/*.md"):
        assert f"(docs/{path.name}" in text, path


def test_readme_can_be_read_in_five_minutes() -> None:
    assert page("README.md").count("\n") <= README_LINES_MAX


def test_every_picture_comes_in_light_and_dark_and_is_small() -> None:
    pictures = {path.name: path.stat().st_size for path in (TOP / "docs" / "images").iterdir()}
    assert max(pictures.values()) <= PICTURE_BYTES_MAX
    light = {name for name in pictures if "-light." in name}
    assert {name.replace("-light.", "-dark.") for name in light} | light == set(pictures)


def test_tracker_peer_and_readme_have_the_same_version() -> None:
    assert (tracker.VERSION, tracker.PROTOCOL) == (common.version.VERSION, common.version.PROTOCOL)
    assert re.findall(r"(?m)^Version (\S+)\. ", page("README.md")) == [tracker.VERSION]


def test_every_protocol_of_this_release_is_in_the_table() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \|", section(page("docs/upgrade.md"), "Protocols"))
    oldest, newest = tracker.PROTOCOL
    assert list(map(int, rows))[-1] == newest
    assert {str(number) for number in range(oldest, newest + 1)} <= set(rows)


def test_the_architecture_names_every_module() -> None:
    text = page("ARCHITECTURE.md")
    layers = dict(re.findall(r"(?m)^\| `(\w+)` \| ([^|]*) \|", section(text, "Layers of the pserver")))
    packages = dict(re.findall(r"(?m)^\| `(peer/\w+)` \| ([^|]*) \|$", text))
    [top] = re.findall(r"(?m)^\| top \| ([^|]*) \|", text)
    tracker_rows = re.findall(r"(?m)^\| (.*) \| ([^|]*) \|$", section(text, "Modules of the tracker"))
    listed = {
        "peer/daemon": top,
        **{f"peer/daemon/{layer}": modules for layer, modules in layers.items()},
        **packages,
        "server/tracker": ", ".join(modules for subject, modules in tracker_rows if "`" not in subject),
        **{
            f"server/tracker/{folder}": modules
            for subject, modules in tracker_rows
            for folder in re.findall(r"`([\w/]+)/`", subject)
        },
    }
    found = {str(path.parent.relative_to(TOP)) for top in ("peer", "server") for path in TOP.glob(f"{top}/*/**/*.py")}
    assert set(listed) == found
    for package, modules in listed.items():
        present = sorted(path.stem for path in (TOP / package).glob("*.py") if path.stem != "__init__")
        assert sorted(re.findall(r"`(\w+)`", modules)) == present, package
