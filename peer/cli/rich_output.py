"""Draws bars, tables and frames with rich. It is imported only when there is a terminal.

Strings become Text, never markup: a file named `[red]x[/red]` is shown as it is. Callers escape control characters,
except those of a Progress, which are escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.progress import phase_label, source_problems
from common import formatting
from common.control_messages import Progress
from common.printable import printable

_MAX_SOURCES = 4
_MAX_MENU_COLUMNS = 3
# Characters: between two columns of a table, and the least for its text columns together.
_COLUMN_GAP = 2
_MIN_TEXT_WIDTH = 20


def console(stream: TextIO) -> Console:
    """A console on `stream`; rich honours NO_COLOR and TERM=dumb."""
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def line(where: Console, text: str, style: str = "") -> None:
    """Print one line without wrapping it; only the word before the first colon has the style."""
    shown = Text(text)
    if style and ":" in text:
        shown.stylize(f"bold {style}", 0, text.index(":") + 1)
    where.print(shown, soft_wrap=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], width: int) -> RenderableType:
    """Draw rows under headers. Text that is too wide is wrapped: no cell is cut.

    Args:
        headers: The names of the columns.
        rows: The cells.
        right: The columns that are numbers; they are not wrapped. If they leave no room for text, each row is drawn as
            a record with a line for each cell.
        width: The width of the terminal in characters.
    """
    numbers = sum(
        max(cell_len(header), *(cell_len(row[column]) for row in rows), 0) + _COLUMN_GAP
        for column, header in enumerate(headers)
        if header in right
    )
    if width < numbers + _MIN_TEXT_WIDTH:
        return _records(headers, rows)
    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True, expand=False)
    for header in headers:
        number = header in right
        shown.add_column(header, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _records(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Draw each cell on a line after its header, and a blank line between rows."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, row in enumerate(rows):
        if number:
            grid.add_row()
        for header, cell in zip(headers, row, strict=True):
            grid.add_row(header, Text(cell))
    return Padding(grid, 1)


def key_values(title: str, rows: Sequence[tuple[str, str]]) -> RenderableType:
    """Draw keys and values in a frame."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows:
        grid.add_row(Text(key), Text(value))
    return Panel(grid, title=Text(title, "bold"), title_align="left", box=box.ROUNDED, expand=False, padding=(0, 1))


def choices(rows: Sequence[tuple[str, str]], width: int) -> RenderableType:
    """Draw the menu, in up to three columns; its order is along the lines. `width` is that of the terminal."""
    cells = [Text.assemble((key, "bold cyan"), f"  {about}") for key, about in rows]
    across = max(1, min(_MAX_MENU_COLUMNS, (width - 2) // (max(cell.cell_len for cell in cells) + 3)))
    grid = Table.grid(padding=(0, 3, 0, 0))
    for start in range(0, len(cells), across):
        grid.add_row(*cells[start : start + across])
    return Padding(grid, (0, 0, 0, 2))


class Bar:
    """Draws a running transfer: phase and file, bar and numbers, sources."""

    def __init__(self, verb: str, console: Console) -> None:
        self.console = console
        self._verb = verb
        self._progress: Progress | None = None
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self.__rich__)

    def __enter__(self) -> Bar:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Display the current progress at the next refresh."""
        self._progress = progress

    def __rich__(self) -> RenderableType:
        """Draw the current progress."""
        if self._progress is None:
            return Text("")
        rows: list[RenderableType] = [self._title(self._progress)]
        if self._progress.total:
            rows.append(_numbers(self._progress))
        rows.extend(_sources(self._progress))
        return Group(*rows)

    def _title(self, progress: Progress) -> RenderableType:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        files = (
            f"{progress.files_done:,} of {formatting.pluralise(progress.files_total, 'file')}"
            if progress.files_total > 1
            else ""
        )
        grid.add_row(
            Text(phase_label(self._verb, progress), "bold"), Text(printable(progress.name)), Text(files, "dim")
        )
        return grid


def _numbers(progress: Progress) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    for _ in range(4):
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(
        ProgressBar(total=progress.total, completed=min(progress.done, progress.total)),
        Text(f"{formatting.percent(progress.done, progress.total):3} %", "cyan"),
        Text(f"{formatting.size(progress.done)} of {formatting.size(progress.total)}"),
        Text(formatting.rate(progress.rate), "cyan"),
        Text(f"{formatting.remaining(progress.done, progress.total, progress.rate)} left", "dim"),
    )
    return grid


def _sources(progress: Progress) -> list[RenderableType]:
    active = sorted(
        (source for source in progress.sources if source.state == "active"), key=lambda source: -source.rate
    )
    rows: list[RenderableType] = []
    if active:
        shown = [f"{source.address} {formatting.rate(source.rate)}" for source in active[:_MAX_SOURCES]]
        more = [f"{len(active) - _MAX_SOURCES} more"] if len(active) > _MAX_SOURCES else []
        text = f"{formatting.pluralise(len(active), 'peer')}: " + ", ".join([*shown, *more])
        rows.append(Text(printable(text), "dim", no_wrap=True, overflow="ellipsis"))
    rows.extend(
        Text(printable(phrase), "yellow", no_wrap=True, overflow="ellipsis")
        for phrase in source_problems(progress)[:_MAX_SOURCES]
    )
    return rows
