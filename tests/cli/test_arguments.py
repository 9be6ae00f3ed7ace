"""The command line, to the letter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.arguments import Invocation, ShowText, parse
from cli.errors import CliError
from cli.options import COMMANDS, help_text
from pclient_runs import Pclient

LAUNCHER = Path(__file__).parents[2] / "peer" / "pclient.py"


@pytest.mark.parametrize(
    ("line", "order"),
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
        ("E files", Invocation("E", None, "files")),
        ("E files *.iso", Invocation("E", None, "files", ["*.iso"])),
        ("E P login P", Invocation("E", "P", "login", ["P"])),
    ],
)
def test_what_a_command_line_means(line: str, order: Invocation) -> None:
    assert parse(line.split(), "1") == order


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
    ],
)
def test_what_makes_no_sense_is_bad_usage_in_one_line(line: str) -> None:
    with pytest.raises(CliError) as caught:
        parse(line.split(), "1")
    assert caught.value.code == "bad_usage"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("command", ["login", "files"])
def test_an_empty_user_or_pattern_is_bad_usage(command: str) -> None:
    with pytest.raises(CliError, match="an empty name"):
        parse(["E", command, ""], "1")


def test_output_to_stdout_is_refused_with_what_can_be_named() -> None:
    with pytest.raises(CliError, match="name a file, or a folder") as caught:
        parse(["E", "download", "a", "--output", "-"], "1")
    assert caught.value.code == "bad_usage"
    assert parse(["E", "download", "a", "--output", "./-"], "1").output == "./-"


def test_a_mistyped_command_is_helped() -> None:
    with pytest.raises(CliError, match="did you mean upload"):
        parse(["E", "P", "uplaod", "x"], "1")
    with pytest.raises(CliError, match="no command 'get', nor 'nn' if get is ENV_PSERVER; there are: login"):
        parse(["E", "get", "nn"], "1")
    with pytest.raises(CliError, match="no command 'nn'; there are: login"):
        parse(["E", ".env_pserver1", "nn"], "1")


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
    ("command", "told"),
    [
        ("login", ["makes an account"]),
        ("passwd", ["first the old password, then the new one"]),
        ("upload", ["A folder is all files in it"]),
        ("download", ["NAME/", "* and ? make a pattern", "resumes", "PATH/NAME"]),
        ("remove", ["NAME/", "* and ? make a pattern"]),
    ],
)
def test_help_of_a_command_tells_what_its_words_may_be_in_lines_of_80_columns(command: str, told: list[str]) -> None:
    notes = help_text(command).rpartition("show this\n\n")[2]
    assert all(each in notes for each in told)
    assert max(map(len, notes.splitlines())) <= 80


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_no_line_of_help_is_broken_by_a_terminal_of_80_columns(
    command: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in help_text(command).splitlines() if len(line) > 78] == []


def test_help_of_download_says_that_a_word_is_a_name_in_the_shared_folder() -> None:
    told = " ".join(help_text("download").split())
    assert "without a /: another name in the shared folder" in told
    assert "./WORD in the current folder" in told


def test_help_is_a_name_after_the_end_of_options() -> None:
    assert parse(["E", "download", "--", "--help"], "1").arguments == ["--help"]


def test_a_mistyped_command_that_was_taken_for_an_env_file_is_helped_too(pclient: Pclient) -> None:
    done = pclient("staus")
    assert done.code == 78
    assert "did you mean status" in done.err


def test_an_env_file_that_lies_there_is_not_taken_for_a_command(
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
