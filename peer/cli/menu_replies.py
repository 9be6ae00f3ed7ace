"""The menu's replies, as lines. Pure: the menu writes them.

Scripts look for their heads, which are those of the first version of this system: see docs/cli.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cli import hints, render
from cli.errors import message_with_name
from common import formatting
from common.control_messages import Downloaded, Failure, Removed, Uploaded

_EXISTS = "File already exists"
_HEADS = {
    "login_refused": "Invalid credentials",
    "no_active_peer": "No active peers available to upload file to",
    "no_such_file": "File not found",
    "target_exists": _EXISTS,
}
_IDENTICAL = "identical content, nothing to do"


def refusal(failure: Failure, *, with_name: bool = False, next_step: str = "") -> str:
    """The reply to a choice that failed.

    Args:
        failure: What went wrong.
        with_name: Whether the choice meant several files, so that the reply needs the name of the failed one.
        next_step: What the user can do next, instead of the hint of `failure`.
    """
    message = message_with_name(failure) if with_name else failure.message
    text = f"{message}. {next_step}" if next_step else hints.for_menu(failure, message)
    return f"{_HEADS.get(failure.code, 'Error')}: {text}"


def replies(result: Downloaded | Uploaded | Removed) -> list[str]:
    """The reply to a choice, and a line of details."""
    head = _head(result)
    if isinstance(result, Uploaded):
        return [f"{head}: {result.name}", f"  {render.upload_details(result)}"]
    if isinstance(result, Removed):
        return [f"{head}: {result.name}", f"  {formatting.size(result.size)}"]
    if result.already_present:
        return [f"{head}: {result.path} ({_IDENTICAL})"]
    return [f"{head}: {result.path}", f"  {render.download_details(result)}"]


def totals(results: Iterable[Downloaded | Uploaded | Removed]) -> Iterator[str]:
    """The replies to a choice with many results: one line for each kind, with number and size."""
    sizes: defaultdict[str, list[int]] = defaultdict(list)
    for result in results:
        sizes[_head(result)].append(result.size)
    for head, each in sizes.items():
        details = _IDENTICAL if head == _EXISTS else formatting.size(sum(each))
        yield f"{head}: {formatting.pluralise(len(each), 'file')}, {details}"


def _head(result: Downloaded | Uploaded | Removed) -> str:
    if isinstance(result, Uploaded):
        return "File uploaded"
    if isinstance(result, Removed):
        return "File removed"
    return _EXISTS if result.already_present else "File downloaded"
