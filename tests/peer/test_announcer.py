"""The tracker's index of a peer is up to date, also one ping after the tracker has lost its index."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.tracker_client.client import FILES_PER_REQUEST
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker
from tracker_requests import logged_in, with_token

RESTARTED = "the tracker was restarted: sending the complete index"


def names_at(tracker: LiveTracker, user: str = "watcher") -> list[str]:
    """The names that another peer finds."""
    client = logged_in(tracker.url, user)

    async def names() -> list[str]:
        return [file.name async for page in client.files("") for file in page]

    return asyncio.run(names())


@pytest.fixture
def dora(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(folder / "dora", tracker, "dora", ping_interval=0.2) as live:
        yield live


def test_added_and_removed_files_are_announced(dora: LivePserver, tracker: LiveTracker) -> None:
    dora.share("new.txt", b"new")
    eventually(lambda: "new.txt" in names_at(tracker))
    (dora.shared / "new.txt").unlink()
    eventually(lambda: "new.txt" not in names_at(tracker))


def test_announced_changes_are_discarded(dora: LivePserver, tracker: LiveTracker) -> None:
    library = dora.pserver.library
    for name in ("first.txt", "second.txt"):
        before = library.revision
        dora.share(name, b"new")
        eventually(lambda: name in names_at(tracker))  # noqa: B023
        eventually(lambda: library.changes_since(before) is None)  # noqa: B023


def test_a_restarted_tracker_gets_the_complete_index(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ExitStack() as stack:
        first = ExitStack()
        tracker = first.enter_context(live_tracker(tmp_path / "tracker"))
        emil = stack.enter_context(live_pserver(tmp_path / "emil", tracker, "emil", ping_interval=0.2))
        emil.share("kept.txt", b"kept")
        eventually(lambda: "kept.txt" in names_at(tracker))
        before = emil.session()
        assert RESTARTED not in caplog.messages
        first.close()
        eventually(lambda: emil.pserver.announcer.fault)
        second = stack.enter_context(live_tracker(tmp_path / "tracker", port=tracker.port))
        eventually(lambda: "kept.txt" in names_at(second))
        eventually(lambda: not emil.pserver.announcer.fault)
        assert emil.session() == before
        assert caplog.messages.count(RESTARTED) == 1


def test_logout_withdraws_the_index_at_once_and_login_restores_it(dora: LivePserver, tracker: LiveTracker) -> None:
    dora.share("mine.txt", b"mine")
    eventually(lambda: "mine.txt" in names_at(tracker))
    dora.call(dora.pserver.account.logout())
    assert "mine.txt" not in names_at(tracker)
    assert not (dora.home / "state" / "session").exists()
    dora.login("dora")
    assert "mine.txt" in names_at(tracker)


def test_a_session_survives_a_restart_of_the_pserver(
    folder: Path, tracker: LiveTracker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_pserver(folder / "finn", tracker, "finn") as finn:
        finn.share("again.txt", b"again")
        eventually(lambda: "again.txt" in names_at(tracker))
    # A clean shutdown withdraws the index.
    assert "again.txt" not in names_at(tracker)
    with live_pserver(folder / "finn", tracker) as finn:
        assert finn.pserver.account.user == "finn"
        eventually(lambda: "again.txt" in names_at(tracker))
    assert RESTARTED not in caplog.messages


def test_a_session_that_the_tracker_does_not_know_is_deleted(folder: Path, tracker: LiveTracker) -> None:
    with live_pserver(folder / "gina", tracker, "gina", ping_interval=0.2) as gina:
        asyncio.run(with_token(tracker.url, gina.session()["token"]).logout())
        eventually(lambda: gina.pserver.account.user is None)
        assert not (gina.home / "state" / "session").exists()


def many_at(tracker: LiveTracker) -> list[str]:
    return [name for name in names_at(tracker) if name.startswith("many/")]


def test_an_index_and_its_changes_may_take_several_requests(folder: Path, tracker: LiveTracker) -> None:
    with live_pserver(folder / "hugo", tracker, "hugo", ping_interval=60) as hugo:
        library, announcer = hugo.pserver.library, hugo.pserver.announcer
        ids = [f"{number:064x}" for number in range(2 * FILES_PER_REQUEST + 1)]
        for id_ in ids:
            library.add_partial(f"many/{id_}", id_, 1)
        # As changes of an index that the tracker has.
        hugo.call(announcer.sync())
        assert len(many_at(tracker)) == len(ids)
        # As a complete index.
        hugo.call(hugo.pserver.account.logout())
        assert not many_at(tracker)
        hugo.login("hugo")
        assert len(many_at(tracker)) == len(ids)
        for id_ in ids:
            library.drop_partial(id_)
        hugo.call(announcer.sync())
        assert not many_at(tracker)
