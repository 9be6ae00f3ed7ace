"""The command line and the help texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.arguments import COMMANDS, Invocation, ShowText, parse
from cli.errors import CliError
from pclient_runs import Pclient

LAUNCHER = Path(__file__).parents[2] / "peer" / "pclient.py"


@pytest.mark.parametrize(
    ("line", "invocation"),
    [
        ("E", Invocation("E")),
        ("E P", Invocation("E", "P")),
        ("E P --quiet", Invocation("E", "P", quiet=True)),
        ("E status", Invocation("E", command="status")),
        ("E P status", Invocation("E", "P", "status")),
        ("--json E P status", Invocation("E", "P", "status", json=True)),
        ("E --json status", Invocation("E", None, "status", json=True)),
        ("E P status --json -q", Invocation("E", "P", "status", json=True, quiet=True)),
        ("E P --json download a b", Invocation("E", "P", "download", ["a", "b"], json=True)),
        ("E download a --output o b", Invocation("E", None, "download", ["a", "b"], output="o")),
        ("E download --output=o a", Invocation("E", None, "download", ["a"], output="o")),
        ("E download -- -a --json", Invocation("E", None, "download", ["-a", "--json"])),
        ("E download -- -- a", Invocation("E", None, "download", ["--", "a"])),
        ("E download x -- -a", Invocation("E", None, "download", ["x", "-a"])),
        ("E P -- upload -x", Invocation("E", "P", "upload", ["-x"])),
        ("E upload status", Invocation("E", None, "upload", ["status"])),
        ("E upload a --copies 0", Invocation("E", None, "upload", ["a"], copies=0)),
        ("E login ana --password-stdin", Invocation("E", None, "login", ["ana"], password_stdin=True)),
        ("E remove a --yes", Invocation("E", None, "remove", ["a"], yes=True)),
        ("E download a --newest b", Invocation("E", None, "download", ["a", "b"], newest=True)),
        ("E files", Invocation("E", None, "files")),
        ("E files *.iso", Invocation("E", None, "files", ["*.iso"])),
        ("E P login P", Invocation("E", "P", "login", ["P"])),
    ],
)
def test_a_command_line_is_parsed(line: str, invocation: Invocation) -> None:
    assert parse(line.split(), "1") == invocation


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--json",
        "status",
        "E P nonsense",
        "E --json P",
        "E --json",
        "E --nonsense",
        "E status --nonsense",
        "E status extra",
        "E login",
        "E login a b",
        "E upload",
        "E upload a --copies",
        "E upload a --copies x",
        "E upload a --copies -1",
        "E download",
        "E download a --output",
        "E download a --out b",
        "E files a b",
        "E remove",
        "E logout --yes",
        "E upload a --newest",
    ],
)
def test_a_malformed_command_line_is_bad_usage_in_one_line(line: str) -> None:
    with pytest.raises(CliError) as caught:
        parse(line.split(), "1")
    assert caught.value.code == "bad_usage"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("command", ["login", "files"])
def test_an_empty_user_or_pattern_is_bad_usage(command: str) -> None:
    with pytest.raises(CliError, match=f"{command}: empty"):
        parse(["E", command, ""], "1")


def test_output_to_stdout_is_refused() -> None:
    with pytest.raises(CliError, match="give a file name, or a folder") as caught:
        parse(["E", "download", "a", "--output", "-"], "1")
    assert caught.value.code == "bad_usage"
    assert parse(["E", "download", "a", "--output", "./-"], "1").output == "./-"


def test_a_mistyped_command_is_helped() -> None:
    with pytest.raises(CliError, match="did you mean upload"):
        parse(["E", "P", "uplaod", "x"], "1")
    with pytest.raises(CliError, match=r"unknown command 'nn' \(commands: login, .*remove\)"):
        parse(["E", ".env_pserver1", "nn"], "1")


def test_a_word_that_is_no_existing_file_is_an_unknown_command() -> None:
    for line in ("E get", "E get nn", "E get status"):
        with pytest.raises(CliError, match=r"unknown command 'get' \(commands: login"):
            parse(line.split(), "1", lambda word: False)
    with pytest.raises(CliError, match=r"unknown command '.env_9', and no such env file"):
        parse(["E", ".env_9", "status"], "1", lambda word: False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("E upload", "upload: missing PATH (see --help)"),
        ("E login", "login: missing USER (see --help)"),
        ("E login a b", "login: unexpected argument 'b' (see --help)"),
        ("E upload a --copies x", "argument --copies: should be a number from 0 to 10000, not 'x' (see --help)"),
        ("", "ENV_PCLIENT is missing; usage: pclient.py ENV_PCLIENT [ENV_PSERVER] [COMMAND ...] (see --help)"),
    ],
)
def test_a_usage_error_says_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        parse(line.split(), "1")
    assert caught.value.message == message


def help_text(command: str | None) -> str:
    with pytest.raises(ShowText) as shown:
        parse([*([command] if command else []), "--help"], "1")
    return shown.value.text


@pytest.mark.parametrize("line", ["--help", "-h", "E --help", "E P status --help", "upload --help"])
def test_help_needs_no_env_file(line: str) -> None:
    with pytest.raises(ShowText) as shown:
        parse(line.split(), "1")
    assert "usage" in shown.value.text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_names_its_options(command: str) -> None:
    with pytest.raises(ShowText) as shown:
        parse([command, "--help"], "1")
    assert all(option in shown.value.text for option in (*COMMANDS[command].options, "--json", command))


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("login", ["creates an account if registration is open"]),
        ("passwd", ["the old password, then the new one"]),
        ("upload", ["Folders are uploaded recursively"]),
        ("download", ["NAME/", "* and ? are wildcards", "resumes", "PATH/NAME"]),
        ("remove", ["NAME/", "* and ? are wildcards"]),
    ],
)
def test_help_of_a_command_explains_its_arguments(command: str, parts: list[str]) -> None:
    notes = help_text(command).rpartition("show this help\n\n")[2]
    assert all(each in notes for each in parts)
    assert max(map(len, notes.splitlines())) <= 80


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_80_columns(command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in help_text(command).splitlines() if len(line) > 78] == []


def test_help_of_download_explains_output() -> None:
    text = " ".join(help_text("download").split())
    assert "--output NAME saves under another name in the shared folder" in text
    assert '--output ./PATH (any path with "/") also writes a copy outside it' in text


def test_help_after_the_end_of_options_is_a_name() -> None:
    assert parse(["E", "download", "--", "--help"], "1").arguments == ["--help"]


@pytest.mark.parametrize("words", [("staus",), ("staus", "status"), ("staus", "x", "y")])
def test_an_unknown_command_is_one_line_and_exits_2(pclient: Pclient, words: tuple[str, ...]) -> None:
    done = pclient(*words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "unknown command 'staus'; did you mean status? (commands: login" in done.err


def test_a_fault_in_an_existing_env_file_exits_78(
    pclient: Pclient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "badp").write_text("PSERVER_PORT=x\n")
    monkeypatch.chdir(tmp_path)
    done = pclient("badp", "status")
    assert done.code == 78
    assert "badp" in done.err and "command" not in done.err


def test_usage_and_env_faults_are_json_too(pclient: Pclient, tmp_path: Path) -> None:
    bad = pclient("--json", "nonsense")
    assert (bad.code, bad.error["code"], bad.err) == (2, "bad_usage", "")
    launched = subprocess.run(
        [sys.executable, LAUNCHER, "missing", "status", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (launched.returncode, launched.stderr) == (78, "")
    assert '"bad_env"' in launched.stdout


def test_the_version_and_help_go_to_stdout() -> None:
    for option in ("--version", "--help"):
        done = subprocess.run([sys.executable, LAUNCHER, option], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()
