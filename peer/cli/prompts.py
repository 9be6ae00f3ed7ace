"""Answers from stdin: a terminal's, or the lines of a pipe. Asks through the screen, decides nothing."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from typing import TextIO

from cli.screen import Screen
from common.printable import printable


class EndOfInput(Exception):
    """There are no more answers."""


class Prompter:
    """stdin, and the screen that shows what is asked."""

    def __init__(self, stdin: TextIO, screen: Screen) -> None:
        self._stdin = stdin
        self._screen = screen

    @property
    def terminal(self) -> bool:
        """Whether a person may be there to answer."""
        return self._stdin.isatty()

    def line(self, prompt: str) -> str:
        """One answer, without spaces around it.

        Raises:
            EndOfInput: if there is none.
        """
        return self._read(prompt).strip()

    def name(self, prompt: str) -> str:
        """One answer that is a name: it may begin with a space, and never ends in one.

        Raises:
            EndOfInput: if there is none.
        """
        return self._read(prompt).rstrip(" \t")

    def secret(self, prompt: str) -> str:
        """One answer that is not echoed on a terminal; spaces count.

        Raises:
            EndOfInput: if there is none.
        """
        if not self.terminal:
            return self._read(prompt)
        try:
            return getpass.getpass(prompt)
        except EOFError as error:
            self._screen.end_of_prompt()
            raise EndOfInput from error
        except UnicodeDecodeError as error:
            # Of a terminal that sends another coding. As in a line of a pipe: whoever it is for refuses it.
            self._screen.end_of_prompt()
            return error.object.decode(error.encoding, "surrogateescape")

    def next_line(self) -> str:
        """One line of stdin, not asked for; spaces count."""
        text = self._stdin.readline()
        if not text:
            raise EndOfInput
        return text.removesuffix("\n").removesuffix("\r")

    def _read(self, prompt: str) -> str:
        edited = self._stdin is sys.stdin and self.terminal and sys.stdout.isatty()
        if not edited:
            self._screen.prompt(prompt)
        try:
            answer = _edited(prompt) if edited else self.next_line()
        except EndOfInput:
            self._screen.end_of_prompt()
            raise
        # Nobody's Enter has ended the line that the prompt began, and a reply begins its own.
        if not self.terminal:
            self._screen.end_of_prompt()
        return answer


def _edited(prompt: str) -> str:
    """One line of a person's, who may go back in it with the arrow keys, and to the lines before."""
    # Python may be built without it; then lines are what the terminal makes of them.
    with suppress(ImportError):
        import readline

        # Replies begin their lines: no codes of the terminal's come before them.
        readline.parse_and_bind("set enable-bracketed-paste off")
        readline.parse_and_bind("set enable-meta-key off")
    try:
        return input(printable(prompt))
    except EOFError as error:
        raise EndOfInput from error
