"""Reads answers from stdin: from a terminal, or from the lines of a pipe. Prompts go through the screen."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from typing import TextIO

from cli.screen import Screen
from common.printable import printable


class EndOfInput(Exception):
    """stdin has no more lines."""


class Prompter:
    """stdin, and the screen that shows the prompts."""

    def __init__(self, stdin: TextIO, screen: Screen) -> None:
        self._stdin = stdin
        self._screen = screen

    @property
    def interactive(self) -> bool:
        """Whether stdin is a terminal, so that a user can answer."""
        return self._stdin.isatty()

    def line(self, prompt: str) -> str:
        """Read one answer; surrounding spaces are removed.

        Raises:
            EndOfInput: if there is none.
        """
        return self._read(prompt).strip()

    def name(self, prompt: str) -> str:
        """Read one answer that is a name: it may begin with a space, but never ends in one.

        Raises:
            EndOfInput: if there is none.
        """
        return self._read(prompt).rstrip(" \t")

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; an empty answer is no.

        Raises:
            EndOfInput: if there is no answer.
        """
        return self.line(f"{question} [y/N] ").lower() in {"y", "yes"}

    def secret(self, prompt: str) -> str:
        """Read one answer that a terminal does not echo; spaces count.

        Raises:
            EndOfInput: if there is none.
        """
        if not self.interactive:
            return self._read(prompt)
        try:
            return getpass.getpass(prompt)
        except EOFError as error:
            self._screen.end_of_prompt()
            raise EndOfInput from error
        except UnicodeDecodeError as error:
            # The terminal has another encoding. Keep the bytes, as for a line of a pipe: the later check refuses them.
            self._screen.end_of_prompt()
            return error.object.decode(error.encoding, "surrogateescape")

    def next_line(self) -> str:
        """Read one line of stdin without a prompt; spaces count.

        Raises:
            EndOfInput: if there is none.
        """
        text = self._stdin.readline()
        if not text:
            raise EndOfInput
        return text.removesuffix("\n").removesuffix("\r")

    def _read(self, prompt: str) -> str:
        edited = self._stdin is sys.stdin and self.interactive and sys.stdout.isatty()
        if not edited:
            self._screen.prompt(prompt)
        try:
            answer = _edited_line(prompt) if edited else self.next_line()
        except EndOfInput:
            self._screen.end_of_prompt()
            raise
        # No Enter of a user ended the line of the prompt, and a reply starts its own line.
        if not self.interactive:
            self._screen.end_of_prompt()
        return answer


def _edited_line(prompt: str) -> str:
    """Read one line of a terminal with readline: arrow keys edit it and recall earlier lines."""
    # Python may be built without readline; the terminal then edits the line.
    with suppress(ImportError):
        import readline

        # No escape codes may precede a reply: scripts match the start of its line.
        readline.parse_and_bind("set enable-bracketed-paste off")
        readline.parse_and_bind("set enable-meta-key off")
    try:
        return input(printable(prompt))
    except EOFError as error:
        raise EndOfInput from error
