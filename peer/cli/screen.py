"""Writes results to stdout and all else to stderr. Control characters in names and messages are escaped.

There are three forms: for a terminal (colours, tables, bars), for a pipe or a log (plain lines), and JSON (one object
per line on stdout). No other module writes to these streams.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from cli.errors import message_with_name
from common.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cli.progress import ProgressView
    from common.control_messages import Failure

# The file is shared, though no copy was stored.
_WARNINGS = {"no_active_peer"}


class OutputLost(Exception):
    """stdout cannot be written; the message says why."""


class Screen:
    """stdout and stderr, and the form of what is written to them."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False, quiet: bool = False) -> None:
        """Make a screen.

        Args:
            out: stdout, for results.
            err: stderr, for progress, prompts, messages and errors.
            as_json: Write results and errors as JSON, and no progress.
            quiet: Write no progress and no messages.
        """
        self._out = out
        self._err = err
        self.as_json = as_json
        self.quiet = quiet
        # The command that starts pclient with the same env files, for hints.
        self.pclient = "pclient.py ENV_PCLIENT"
        self._live: Console | None = None

    def data(self, values: Mapping[str, object]) -> None:
        """Write one JSON object to stdout."""
        # ASCII works with every terminal and encoding. json does not escape DEL.
        text = json.dumps(values, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")
        self._write(text + "\n")

    def line(self, text: str) -> None:
        """Write one line of a result to stdout. Its head is never coloured: scripts look for it."""
        if self._live is not None and self._out.isatty():
            self._write_above_bar(text)
            return
        self._write(printable(text) + "\n")

    def info(self, text: str) -> None:
        """Write one message for the user to stderr."""
        if self.quiet:
            return
        self._write_message(text)

    def fault(self, failure: Failure, *, plain: bool = False) -> None:
        """Write what went wrong and what to do next, as one line or as a JSON object.

        Args:
            failure: What went wrong.
            plain: Write without colour. Then nothing is imported for a failure without a hint.
        """
        if self.as_json:
            message = self._with_hint(failure, failure.message)
            values: dict[str, object] = {"code": failure.code, "message": message, "name": failure.name or None}
            if failure.ids:
                values["ids"] = list(failure.ids)
            self.data({"error": values})
            return
        head, style = ("warning", "yellow") if failure.code in _WARNINGS else ("error", "red")
        text = f"{head}: {self._with_hint(failure, message_with_name(failure))}"
        if plain:
            self._write_stderr(printable(text) + "\n")
        else:
            self._write_message(text, style=style)
        for id_ in failure.ids:
            if id_ not in failure.message:
                self._write_message(f"  {id_}")

    def prompt(self, text: str) -> None:
        """Write a prompt; the answer follows on the same line."""
        self._write_stderr(printable(text))

    def end_of_prompt(self) -> None:
        """End the line of a prompt that the user did not end with Enter."""
        self._write_stderr("\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Write rows under headers to stdout; the columns named in `right` are numbers."""
        safe = [[printable(cell) for cell in row] for row in rows]
        if self._out.isatty():
            from cli import rich_output

            self._draw(rich_output.table(headers, safe, right, rich_output.console(self._out).width))
            return
        widths = [max(len(header), *(len(row[column]) for row in safe), 0) for column, header in enumerate(headers)]
        for row in [list(headers), *safe]:
            cells = [
                cell.rjust(width) if header in right else cell.ljust(width)
                for cell, width, header in zip(row, widths, headers, strict=True)
            ]
            self._write("  ".join(cells).rstrip() + "\n", flush=False)
        self._write("")

    def key_values(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Write keys and values to stdout, framed on a terminal. A row with an empty key continues the one before."""
        safe = [(key, printable(value)) for key, value in rows]
        if self._out.isatty():
            from cli import rich_output

            self._draw(rich_output.key_values(title, safe))
            return
        width = max(len(key) for key, _ in safe)
        for key, value in safe:
            self._write(f"{key:{width}}  {value}".rstrip() + "\n", flush=False)
        self._write("")

    def choices(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write keys and labels to choose from to stderr, beside the prompt."""
        if self.quiet:
            return
        safe = [(key, printable(label)) for key, label in rows]
        if self._err.isatty():
            from cli import rich_output

            console = rich_output.console(self._err)
            with suppress(OSError):
                console.print(rich_output.choices(safe, console.width))
            return
        self._write_stderr("".join(f"  {key}  {label}\n" for key, label in safe))

    @contextmanager
    def progress(self, verb: str) -> Iterator[ProgressView]:
        """Yield a view of a transfer: a bar on a terminal, else a line now and then, or nothing.

        Args:
            verb: What the phase MOVING is called: "downloading", "uploading".
        """
        from cli.progress import NoProgress, PlainLines

        if self.as_json or self.quiet:
            yield NoProgress()
        elif not self._err.isatty():
            yield PlainLines(verb, self._write_message)
        else:
            from cli import rich_output

            with rich_output.Bar(verb, rich_output.console(self._err)) as bar:
                self._live = bar.console
                try:
                    yield bar
                finally:
                    self._live = None

    def _with_hint(self, failure: Failure, message: str) -> str:
        if failure.hint is None:
            return message
        from cli import hints

        return hints.for_command(failure, message, self.pclient)

    def _write(self, text: str, *, flush: bool = True) -> None:
        with _checked_output():
            self._out.write(text)
            if flush:
                self._out.flush()

    def _draw(self, drawing: RenderableType) -> None:
        from cli import rich_output

        with _checked_output():
            rich_output.console(self._out).print(drawing)

    def _write_message(self, text: str, style: str = "") -> None:
        if self._err.isatty():
            with suppress(OSError):
                self._write_above_bar(text, style)
            return
        self._write_stderr(printable(text) + "\n")

    def _write_stderr(self, text: str) -> None:
        """Write to stderr. An error is ignored: the result does not depend on messages."""
        with suppress(OSError):
            self._err.write(text)
            self._err.flush()

    def _write_above_bar(self, text: str, style: str = "") -> None:
        from cli import rich_output

        rich_output.line(self._live or rich_output.console(self._err), printable(text), style)


@contextmanager
def _checked_output() -> Iterator[None]:
    """Translate a failure of stdout into OutputLost. BrokenPipeError passes: the reader has closed the pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"stdout cannot be written: {error.strerror}") from error
