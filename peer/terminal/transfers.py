"""The commands that move files: upload and download. Results are told as they come, a line or an object each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePath

from terminal import model, reports
from terminal.arguments import Order
from terminal.errors import TerminalError
from terminal.exits import exit_code
from terminal.jobs import HOW_TO_RESUME, follow
from terminal.node_client import Watch
from terminal.screen import Screen
from terminal.session import Session, sendable


def upload(session: Session, order: Order) -> int:
    """Share files and push them."""
    words = {absolute(word): word for word in order.words}
    paths, faults = sendable(list(words))

    def show(result: model.Result) -> None:
        if isinstance(result, TerminalError):
            result.name = words.get(result.name or "", result.name)
        _show(session.screen, result)

    return _transfer(session, order.words, faults, show, "uploading", lambda: session.node.upload(paths, order.copies))


def download(session: Session, order: Order) -> int:
    """Fetch files."""
    names, faults = sendable(order.words)
    output = _output(order.output)
    if sendable([output])[1]:
        raise TerminalError("bad_name", "--output should be a path in UTF-8", name=output)

    # What lies in the way of a copy outside is told of as its path.
    outside = os.path.join(PurePath(output), "") if "/" in output else ""

    def show(result: model.Result) -> None:
        if isinstance(result, TerminalError) and result.name:
            result.name = result.name.removeprefix(outside)
        _show(session.screen, result)

    return _transfer(session, order.words, faults, show, "downloading", lambda: session.node.download(names, output))


def absolute(path: str) -> str:
    """The path for the pserver, which has another current folder.

    `..` stays as it is: after a link only the system knows where it leads.
    """
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _transfer(
    session: Session,
    words: list[str],
    faults: list[TerminalError],
    show: Callable[[model.Result], None],
    verb: str,
    start: Callable[[], Watch],
) -> int:
    for fault in faults:
        session.screen.fault(fault)
    if len(faults) == len(words):
        return exit_code(words, faults)
    outcome = follow(session.node, start(), session.screen, verb, show)
    if outcome.interrupted:
        stopped = f"stopped by Ctrl-C; {HOW_TO_RESUME}"
        if session.screen.as_json:
            session.screen.fault(TerminalError("interrupted", stopped))
        else:
            session.screen.say(stopped)
    return exit_code(words, [*faults, *outcome.faults], interrupted=outcome.interrupted)


def _show(screen: Screen, result: model.Result) -> None:
    match result:
        case TerminalError():
            screen.fault(result)
        case model.Downloaded() if screen.as_json:
            screen.data(reports.downloaded_object(result))
        case model.Downloaded():
            screen.line(result.path)
            screen.say(f"{result.name}: {reports.how_downloaded(result)}")
        case model.Uploaded() if screen.as_json:
            screen.data(reports.uploaded_object(result))
        case model.Uploaded():
            screen.line(f"File uploaded: {result.name} ({reports.how_uploaded(result)})")


def _output(text: str) -> str:
    """--output as the pserver takes it: a word is a name; a path is absolute, and keeps the / that means a folder."""
    if not text or ("/" not in text and text not in {".", ".."}):
        return text
    return absolute(text) + ("/" if text.endswith(("/.", "/..")) else "")
