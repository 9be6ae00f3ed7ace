"""The only writer of the screen: results to stdout, all else to stderr, and never a control character of a stranger's.

Three manners: for a terminal (colours, tables, bars), for a pipe or a log (plain lines), and JSON (one object a line on
stdout).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from cli.errors import CliError, message_with_name
from cli.progress import NoProgress, PlainLines, ProgressView
from common.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class OutputLost(Exception):
    """stdout does not take what was to be written; the message says why."""


class Screen:
    """Two streams and the manner of writing to them."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False, quiet: bool = False) -> None:
        self._out = out
        self._err = err
        self.as_json = as_json
        self.quiet = quiet
        self._live: Console | None = None

    def data(self, values: Mapping[str, object]) -> None:
        """One JSON object on stdout."""
        # In ASCII, so that no terminal and no codec can stumble; json leaves DEL as it is.
        text = json.dumps(values, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")
        self._put(text + "\n")

    def line(self, text: str) -> None:
        """One line of a result on stdout. Its head is never coloured: it is what scripts look for."""
        if self._live is not None and self._out.isatty():
            self._above_bar(text)
            return
        self._put(printable(text) + "\n")

    def info(self, text: str) -> None:
        """One line for the person: what happens, what to know."""
        if self.quiet:
            return
        self._tell(text)

    def fault(self, error: CliError) -> None:
        """What went wrong, as one line, or as an object in JSON."""
        if self.as_json:
            values: dict[str, object] = {"code": error.code, "message": error.message, "name": error.name}
            if error.ids:
                values["ids"] = list(error.ids)
            self.data({"error": values})
            return
        self._tell(f"error: {message_with_name(error)}", style="red")
        for identity in error.ids:
            if identity not in error.message:
                self._tell(f"  {identity}")

    def prompt(self, text: str) -> None:
        """Ask for an answer on the same line."""
        self._aside(printable(text))

    def end_of_prompt(self) -> None:
        """End a prompt's line that no Enter of a person ended."""
        self._aside("\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Rows under headers on stdout; the columns named in `right` are numbers."""
        safe = [[printable(cell) for cell in row] for row in rows]
        if self._out.isatty():
            from cli import rich_output

            self._show(rich_output.table(headers, safe, right, rich_output.console(self._out).width))
            return
        widths = [max(len(header), *(len(row[place]) for row in safe), 0) for place, header in enumerate(headers)]
        for row in [list(headers), *safe]:
            cells = [
                cell.rjust(width) if header in right else cell.ljust(width)
                for cell, width, header in zip(row, widths, headers, strict=True)
            ]
            self._put("  ".join(cells).rstrip() + "\n", flush=False)
        self._put("")

    def key_values(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Words and their values on stdout, framed on a terminal; a row without a word goes on from the one before."""
        safe = [(key, printable(value)) for key, value in rows]
        if self._out.isatty():
            from cli import rich_output

            self._show(rich_output.key_values(title, safe))
            return
        width = max(len(key) for key, _ in safe)
        for key, value in safe:
            self._put(f"{key:{width}}  {value}".rstrip() + "\n", flush=False)
        self._put("")

    def choices(self, rows: Sequence[tuple[str, str]]) -> None:
        """What can be chosen, on stderr beside its prompt."""
        if self.quiet:
            return
        if self._err.isatty():
            from cli import rich_output

            console = rich_output.console(self._err)
            with suppress(OSError):
                console.print(rich_output.choices(rows, console.width))
            return
        self._aside("".join(f"  {key}  {about}\n" for key, about in rows))

    @contextmanager
    def progress(self, verb: str) -> Iterator[ProgressView]:
        """A view of a transfer while it lasts: a bar on a terminal, else a line now and then, or nothing."""
        if self.as_json or self.quiet:
            yield NoProgress()
        elif not self._err.isatty():
            yield PlainLines(verb, self._tell)
        else:
            from cli import rich_output

            with rich_output.Bar(verb, rich_output.console(self._err)) as bar:
                self._live = bar.console
                try:
                    yield bar
                finally:
                    self._live = None

    def _put(self, text: str, *, flush: bool = True) -> None:
        with _lost():
            self._out.write(text)
            if flush:
                self._out.flush()

    def _show(self, picture: RenderableType) -> None:
        from cli import rich_output

        with _lost():
            rich_output.console(self._out).print(picture)

    def _tell(self, text: str, style: str = "") -> None:
        if self._err.isatty():
            with suppress(OSError):
                self._above_bar(text, style)
            return
        self._aside(printable(text) + "\n")

    def _aside(self, text: str) -> None:
        """Write to stderr; where that does not take it nobody listens, and the result is what it is."""
        with suppress(OSError):
            self._err.write(text)
            self._err.flush()

    def _above_bar(self, text: str, style: str = "") -> None:
        from cli import rich_output

        rich_output.line(self._live or rich_output.console(self._err), printable(text), style)


@contextmanager
def _lost() -> Iterator[None]:
    """Turn a failure of stdout into OutputLost, but for the pipe that its reader closed."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"stdout cannot be written: {error.strerror}") from error
