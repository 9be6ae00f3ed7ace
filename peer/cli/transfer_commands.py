"""The commands on files: upload, download and remove. Results are told as they come, a line or an object each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from cli import formatting, models, render
from cli.argument_map import Meaning, absolute_path, by_path, may_match_many, of_names, of_paths
from cli.arguments import Invocation
from cli.context import Context, not_empty, sendable
from cli.daemon_client import StartTransfer
from cli.errors import OK, CliError, bad_usage
from cli.exit_status import exit_code
from cli.screen import Screen
from cli.transfer_follower import follow

# So many files are told of one by one; of more than these the sum is told.
MAX_LISTED = 10


def upload(session: Context, order: Invocation) -> int:
    """Share files and push them."""
    given, empty = not_empty(order.arguments)
    words = by_path(given)
    paths, faults = sendable(list(words))
    teller = _Teller(session.screen, of_paths(words))
    ready = partial(session.daemon.upload, paths, order.copies) if paths else None
    return _transfer(session, order.arguments, [*empty, *faults], teller, "uploading", ready)


def download(session: Context, order: Invocation) -> int:
    """Fetch files."""
    given, empty = not_empty(order.arguments)
    names, faults = sendable(given)
    output = _output(order.output)
    if sendable([output])[1]:
        raise CliError("bad_name", "--output should be a path in UTF-8", name=output)
    # cp and the like would put it there.
    if "/" not in output and os.path.isdir(output) and not session.screen.as_json:
        session.screen.info(f"{output} is a name in the shared folder; for the folder here write {output}/")
    teller = _Teller(session.screen, of_names(names, output))
    ready = partial(session.daemon.download, names, output) if names else None
    return _transfer(session, order.arguments, [*empty, *faults], teller, "downloading", ready)


def remove(session: Context, order: Invocation) -> int:
    """Delete own copies."""
    given, empty = not_empty(order.arguments)
    names, faults = sendable(given)
    if names and not order.yes:
        if not session.prompter.terminal or session.screen.as_json:
            raise bad_usage("remove deletes files: add --yes, as nobody can be asked here")
        if not may_remove(session, names):
            return OK
    teller = _Teller(session.screen, of_names(names))
    ready = partial(session.daemon.remove, names) if names else None
    how_to_go_on = "run it again to remove the rest"
    return _transfer(session, order.arguments, [*empty, *faults], teller, "removing", ready, how_to_go_on)


def may_remove(session: Context, names: Sequence[str]) -> bool:
    """Whether whoever is at the terminal says yes; if not, a line about it."""
    yes = session.prompter.line(f"Remove {_copies_of(names)}? (y/N) ").lower() in {"y", "yes"}
    if not yes:
        session.screen.info("nothing was removed")
    return yes


def _transfer(
    session: Context,
    words: list[str],
    faults: list[CliError],
    teller: _Teller,
    verb: str,
    ready: Callable[[], StartTransfer] | None,
    how_to_go_on: str = "what was verified is kept; run it again to resume",
) -> int:
    """Tell the faults that are known already, and follow what is to be ordered, if there is anything."""
    for fault in faults:
        teller.tell(fault)
    if ready is None:
        return exit_code(words, faults)
    outcome = follow(session.daemon, ready, session.screen, verb, teller.tell)
    teller.sum_up()
    if outcome.interrupted:
        stopped = (
            f"Ctrl-C; {outcome.not_stopped}" if outcome.still_running_reason else f"stopped by Ctrl-C; {how_to_go_on}"
        )
        if session.screen.as_json:
            session.screen.fault(CliError("interrupted", stopped))
        else:
            session.screen.info(stopped)
    return exit_code(words, [*faults, *outcome.faults], interrupted=outcome.interrupted)


class _Teller:
    """Tells of results as they come: of the first few all there is to say, of the others where they are.

    The sum of many is told at the end. In JSON each is told for each argument that means it.
    """

    def __init__(self, screen: Screen, meaning: Meaning, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._meaning = meaning
        self._clock = clock
        self._began = clock()
        self._files: list[models.Downloaded | models.Uploaded | models.Removed] = []
        self._failed = 0

    def tell(self, result: models.Result) -> None:
        """Tell of one; a fault is given the name that its user knows."""
        names = self._meaning(result)
        if isinstance(result, CliError):
            self._failed += 1
            for name in names if self._screen.as_json else names[:1]:
                self._screen.fault(CliError(result.code, result.message, name=name or None, ids=result.ids))
            result.name = names[0]
            return
        self._files.append(result)
        if self._screen.as_json:
            for _ in names:
                self._screen.data(render.result_object(result))
        elif isinstance(result, models.Uploaded):
            self._screen.line(f"File uploaded: {result.name} ({render.upload_details(result)})")
        elif isinstance(result, models.Removed):
            self._screen.line(f"File removed: {result.name} ({formatting.size(result.size)})")
        else:
            self._screen.line(result.path)
            if len(self._files) <= MAX_LISTED:
                self._screen.info(f"{result.name}: {render.download_details(result)}")

    def sum_up(self) -> None:
        """Tell of all together, if they were many."""
        if len(self._files) > MAX_LISTED and not self._screen.as_json:
            self._screen.info(render.summary(self._files, self._failed, self._clock() - self._began))


def _copies_of(names: Sequence[str]) -> str:
    """What `remove` would delete, as its question calls it."""
    if any(map(may_match_many, names)):
        return "this peer's copies of all that is meant by " + " ".join(names)
    return f"this peer's copy of {names[0]}" if len(names) == 1 else f"this peer's copies of {len(names):,} files"


def _output(text: str) -> str:
    """--output as the pserver takes it: a word is a name; a path is absolute, and keeps the / that means a folder."""
    if not text or ("/" not in text and text not in {".", ".."}):
        return text
    return absolute_path(text) + ("/" if text.endswith(("/.", "/..")) else "")
