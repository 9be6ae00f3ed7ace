"""What the menu replies, as lines. Pure: the menu writes them.

Their heads are those of the first version of this system, and scripts look for them: see README.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cli import formatting, models, render
from cli.errors import CliError

_EXISTS = "File already exists"
_REFUSALS = {
    "login_refused": "Invalid credentials",
    "no_active_peer": "No active peers available to upload file to",
    "no_such_file": "File not found",
    "target_exists": _EXISTS,
}
# What the pserver tells whoever types commands to do next, and what that is in the menu: its entries and questions.
_NEXT = {
    "`files` lists what there is": "choose 4 to see what there is",
    "an id has 64 digits: `files --json` tells it whole": (
        "an id has 64 digits, of which choice 4 shows the first: choose the file by its name"
    ),
    "rename or remove it, or download this one with --output and another name (a word without /)": (
        "rename it, remove it (choice 8), or choose this one by itself (choice 2) and give it another name"
    ),
}


def refusal(error: CliError) -> str:
    """One line about what went wrong."""
    message = error.message
    for command, entry in _NEXT.items():
        message = message.replace(command, entry)
    return f"{_REFUSALS.get(error.code, 'Not done')}: {message}"


def reply(result: models.Downloaded | models.Uploaded | models.Removed) -> tuple[str, str]:
    """The reply, and what more there is to tell."""
    if isinstance(result, models.Uploaded):
        return f"{_head(result)}: {result.name}", render.upload_details(result)
    if isinstance(result, models.Removed):
        return f"{_head(result)}: {result.name}", formatting.size(result.size)
    return f"{_head(result)}: {result.path}", render.download_details(result)


def totals(results: Iterable[models.Downloaded | models.Uploaded | models.Removed]) -> Iterator[str]:
    """The replies when there are many: how many of each kind."""
    sizes: defaultdict[str, list[int]] = defaultdict(list)
    for result in results:
        sizes[_head(result)].append(result.size)
    for head, each in sizes.items():
        more = "the same contents lay here already" if head == _EXISTS else formatting.size(sum(each))
        yield f"{head}: {formatting.pluralise(len(each), 'file')}, {more}"


def _head(result: models.Downloaded | models.Uploaded | models.Removed) -> str:
    if isinstance(result, models.Uploaded):
        return "File uploaded"
    if isinstance(result, models.Removed):
        return "File removed"
    return _EXISTS if result.present else "File downloaded"
