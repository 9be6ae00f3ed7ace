"""The screen: its three forms, and no control characters of names in any of them."""

from __future__ import annotations

import io
import json
import random
import re
import sys

import pytest
from rich.console import Console

import pserver_pb2 as pb
from cli import render, rich_output
from cli.errors import CliError
from cli.main import main
from cli.progress import PlainLines, as_line
from cli.screen import Screen
from common import formatting
from common.control_messages import Phase, Progress, SourceView
from common.status_messages import ListedFile, ListedPeer, Load
from pclient_runs import Pclient
from scripted_daemon import ID, ScriptedDaemon, downloaded, failed, moving, started

SEED = 20261122

HARMFUL = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ud800-\udfff]"
)
# What rich itself writes: colours, and the lines of its frames.
OURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_an_internal_error_is_reported_on_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch, env: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("cli.settings.read_settings", broken)
    monkeypatch.setitem(sys.modules, "cli.rich_output", None)
    monkeypatch.delattr("cli.rich_output")
    err = Terminal()
    assert main([env, "status"], Terminal(), Terminal(), err) == 1
    assert re.fullmatch(r"error: internal error of pclient: RuntimeError in test_screen.py, line \d+\n", err.getvalue())


def hostile_names(count: int) -> list[str]:
    """Names made of what moves cursors, rings bells, turns lines round and opens markup."""
    dice = random.Random(SEED)
    pieces = [
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\r",
        "\n",
        "\t",
        "\x08\x08",
        "\x7f",
        "\x00",
        "\x85",
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
        "\u2028",
        "[red]",
        "[/]",
        "[link=http://x]",
        ":smile:",
        "\x1bP0;1|17/ab\x1b\\",
        "%s{0}",
        "'\"`",
        "plain",
        "日本語",
        "é",
        "👩🏽\u200d🚀",
        ".txt",
    ]
    return ["".join(dice.choices(pieces, k=dice.randint(1, 8))) for _ in range(count)]


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_names_write_no_control_character(count: int) -> None:
    for name in hostile_names(count):
        for make in (io.StringIO, Terminal):
            out, err = make(), make()
            screen = Screen(out, err)
            screen.line(name)
            screen.info(name)
            screen.prompt(name)
            screen.fault(CliError("io", name, name=name, ids=(name,)))
            shown = OURS.sub("", out.getvalue() + err.getvalue())
            assert not HARMFUL.search(shown), (SEED, name)


def test_tables_frames_and_choices_of_hostile_names_write_no_control_character() -> None:
    names = hostile_names(1000)
    for make in (io.StringIO, Terminal):
        out, err = make(), make()
        screen = Screen(out, err)
        screen.table(("size", "name"), [["1", name] for name in names], ("size",))
        screen.key_values("status", [("user", name) for name in names])
        screen.choices([("1", name) for name in names])
        assert not HARMFUL.search(OURS.sub("", out.getvalue() + err.getvalue())), SEED


def test_bars_of_hostile_names_write_no_control_character() -> None:
    for name in hostile_names(200):
        out = io.StringIO()
        bar = rich_output.Bar("downloading", Console(file=out, width=200, force_terminal=True))
        source = SourceView(name, 1.0, 1, "dropped", name)
        bar.show(Progress(Phase.MOVING, name, 1, 2, 1, 2, 3.0, (source,)))
        bar.console.print(bar)
        assert not HARMFUL.search(OURS.sub("", out.getvalue())), (SEED, name)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 70, 80, 120])
def test_no_cell_of_a_table_is_cut(width: int) -> None:
    ana = ListedPeer(
        "203.0.113.107:5001",
        "ana-of-the-house",
        12_345,
        5.0,
        Load(uploads=3, downloads=1, free_bytes=7 << 30, rate=1.5e8),
    )
    film = ListedFile("songs/日本語/film.mkv", ID, 1 << 30, 12, 3)
    tables = (
        (render.PEER_HEADERS, render.peer_rows([ana, ana]), render.PEER_NUMBERS),
        (render.FILE_HEADERS, render.file_rows([film, film]), render.FILE_NUMBERS),
    )
    for headers, rows, right in tables:
        out = io.StringIO()
        Console(file=out, width=width).print(rich_output.table(headers, rows, right, width))
        shown = out.getvalue()
        # A number is whole; a word may go on in the next line, below its beginning.
        for header, cell in zip(headers, rows[0], strict=True):
            assert header in right or _is_wrapped(cell, shown), (header, shown)
            assert header not in right or shown.count(cell) >= 2, (header, shown)


def _is_wrapped(cell: str, shown: str) -> bool:
    """Whether all of `cell` is there, in as many pieces as lines of `shown`."""
    for line in shown.splitlines():
        beginning = max((cell[:end] for end in range(len(cell) + 1) if cell[:end] in line), key=len)
        cell = cell[len(beginning) :].lstrip()
    return not cell


def test_a_narrow_table_shows_each_row_as_a_record() -> None:
    out = io.StringIO()
    rows = [["12,345", "ana of the house"], ["6", "ben"]]
    Console(file=out, width=20).print(rich_output.table(("files", "user"), rows, ("files",), 20))
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        "",
        "files  12,345",
        "user   ana of the",
        "house",
        "",
        "files  6",
        "user   ben",
        "",
    ]


def test_markup_in_a_name_is_shown_as_text() -> None:
    out = Terminal()
    Screen(out, Terminal()).table(("name",), [["[red]x[/red]"]])
    assert "[red]x[/red]" in out.getvalue()


def test_json_of_hostile_names_is_ascii_and_reads_back() -> None:
    out = io.StringIO()
    names = hostile_names(1000)
    screen = Screen(out, io.StringIO(), as_json=True)
    for name in names:
        screen.data({"name": name})
    assert all(0x20 <= ord(char) < 0x7F for char in out.getvalue().replace("\n", ""))
    assert [json.loads(line)["name"] for line in out.getvalue().splitlines()] == names


def test_hostile_names_through_commands_and_menu(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    names = [name for name in hostile_names(60) if "\x00" not in name]
    daemon.status.user = "\x1b[31mana"
    daemon.status.not_shared.extend(pb.NotShared(name=name, reason=name) for name in names)
    daemon.pages = [[pb.ListedFile(name=name, id=ID, size=1, holders=1) for name in names]]
    daemon.peers = [pb.ListedPeer(address=name, user=name) for name in names]
    daemon.transfers = [
        [
            event
            for name in names
            for event in (pb.TransferEvent(notice=name), downloaded(name, name), failed("io", name, name))
        ]
        for _ in range(2)
    ]
    runs = [
        pclient("files"),
        pclient("peers"),
        pclient("status"),
        pclient("download", "x"),
        pclient(typed="4\n5\nx\n6\n7\n2\nx\n\x1b[2J\n0\n"),
    ]
    for done in runs:
        assert not HARMFUL.search(done.out + done.err)


def test_without_a_terminal_there_are_no_colours_and_frames(daemon: ScriptedDaemon, pclient: Pclient) -> None:
    daemon.transfers = [[started(), moving("x", 1, 2), downloaded("x")]]
    for done in (pclient("status"), pclient("download", "x")):
        assert "\x1b" not in done.out + done.err
        assert "╭" not in done.out


def test_without_a_terminal_progress_is_a_line_every_ten_seconds() -> None:
    now, lines = [0.0], list[str]()
    view = PlainLines("downloading", lines.append, lambda: now[0])
    source = SourceView("h:1", 1.0, 1, "active", "")
    for second in range(35):
        now[0] = float(second)
        view.show(Progress(Phase.MOVING, "x", second << 20, 40 << 20, 0, 1, 1 << 20, (source,)))
    assert lines == [
        "x: downloading, 25 % of 40.0 MiB, 1.00 MiB/s, 0:30 left, 1 peer",
        "x: downloading, 50 % of 40.0 MiB, 1.00 MiB/s, 0:20 left, 1 peer",
        "x: downloading, 75 % of 40.0 MiB, 1.00 MiB/s, 0:10 left, 1 peer",
    ]


def test_progress_of_hashing_says_so() -> None:
    assert (
        as_line("uploading", Progress(Phase.HASHING, "x", 1, 4, 0, 1, 0.0, ())) == "x: reading and hashing, 25 % of 4 B"
    )


def test_formats_of_numbers() -> None:
    assert [formatting.size(count) for count in (0, 999, 1000, 1536, 10 << 20, 123 << 30, -1)] == [
        "0 B",
        "999 B",
        "0.98 KiB",
        "1.50 KiB",
        "10.0 MiB",
        "123 GiB",
        "0 B",
    ]
    assert [formatting.percent(done, 3) for done in (0, 1, 2, 3, 4)] == [0, 33, 66, 100, 100]
    assert formatting.percent(999_999, 1_000_000) == 99
    assert formatting.percent(0, 0) == 0
    assert [formatting.duration(seconds) for seconds in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]
    assert formatting.remaining(1, 2, 0) == "-:--"
    assert [formatting.ago(seconds) for seconds in (3.4, 119, 120)] == ["3 s ago", "119 s ago", "2:00 ago"]
    assert formatting.pluralise(1, "file") == "1 file"
    assert formatting.pluralise(2000, "file") == "2,000 files"
