"""What a terminal shows of a program's output, as an SVG. Knows only the escape sequences that rich writes."""

import io
import re
from dataclasses import dataclass, field

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

THEMES: dict[str, TerminalTheme] = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", re.DOTALL)
# A picture loads nothing from other servers.
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
# The id of the drawing is part of every class name in it; a fixed one keeps the file the same from run to run.
_DRAWING_ID = "terminal"


@dataclass
class Cell:
    """One character and the SGR parameters in force where it was written."""

    character: str = " "
    style: str = ""


@dataclass
class TerminalScreen:
    """The lines that a terminal without a bottom would show."""

    lines: list[list[Cell]] = field(default_factory=lambda: [[]])
    _row: int = 0
    _column: int = 0
    _style: str = ""

    def feed(self, output: str) -> None:
        """Apply what a program wrote."""
        for parameters, final, carriage_return, line_feed, text in _SEQUENCE.findall(output):
            if text:
                self._write(text)
            elif carriage_return:
                self._column = 0
            elif line_feed:
                self._move_to(self._row + 1)
            elif final == "m":
                self._style = "" if parameters in ("", "0") else f"{self._style};{parameters}".lstrip(";")
            elif final == "A":
                self._move_to(max(0, self._row - int(parameters or 1)))
            elif final == "B":
                self._move_to(self._row + int(parameters or 1))
            elif final == "K":
                self.lines[self._row][0 if parameters == "2" else self._column :] = []

    def text(self) -> str:
        """The characters alone, without spaces at the ends of lines."""
        return "\n".join("".join(cell.character for cell in line).rstrip() for line in self.lines)

    def svg(self, theme: str, title: str, width: int) -> str:
        """Draw the screen.

        Args:
            theme: a key of THEMES.
            title: what the window's bar says.
            width: columns of the window.
        """
        console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True, legacy_windows=False)
        filled = [row for row, line in enumerate(self.lines) if any(not cell.character.isspace() for cell in line)]
        for line in self.lines[: max(filled, default=-1) + 1]:
            console.print(_styled(line), overflow="crop", no_wrap=True)
        drawing = console.export_svg(title=title, theme=THEMES[theme], unique_id=_DRAWING_ID)
        # rich draws a white edge, which is not seen on white.
        drawing = drawing.replace("rgba(255,255,255,0.35)", "rgba(128,128,128,0.5)")
        return _FONT_FACE.sub("", drawing).replace("Fira Code, monospace", FONTS)

    def _write(self, text: str) -> None:
        line = self.lines[self._row]
        for character in text:
            while len(line) <= self._column:
                line.append(Cell())
            line[self._column] = Cell(character, self._style)
            self._column += 1

    def _move_to(self, row: int) -> None:
        self._row = row
        while len(self.lines) <= row:
            self.lines.append([])


def _styled(line: list[Cell]) -> Text:
    return Text.from_ansi("".join(f"\x1b[0;{cell.style}m{cell.character}" for cell in line))
