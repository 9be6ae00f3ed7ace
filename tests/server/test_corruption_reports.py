"""Holders that serve corrupt data, and false reports about honest ones."""

from collections.abc import Callable

import pytest

from tracker_fixture import Peer, TrackerFixture, id_of

A = id_of("a.txt")


def report(peer: Peer, url: str, file_id: str = A, **more: str) -> int:
    body = {"id": file_id, "url": url, "reason": "piece 3 did not verify", **more}
    return peer.call("POST", "/report", body).status_code


def query_and_report(peer: Peer, url: str) -> int:
    return report(peer, url, ticket=peer.tickets("a.txt")[url])


def swarm(world: TrackerFixture) -> tuple[Peer, Peer, Peer]:
    corrupt, honest, victim = (
        world.peer(name, f"127.0.0.1:500{at}") for at, name in enumerate(("corrupt", "honest", "victim"))
    )
    corrupt.share("a.txt", "b.txt")
    honest.share("a.txt", "b.txt")
    honest.ping(uploads=9)
    return corrupt, honest, victim


def test_a_reported_holder_comes_last_for_that_id_only_and_is_asked_to_hash_it_again(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    assert victim.holders("a.txt") == [corrupt.address, honest.address]
    assert query_and_report(victim, corrupt.address) == 200
    assert victim.holders("a.txt") == [honest.address, corrupt.address]
    assert world.peer("other", "127.0.0.1:5009").holders("a.txt") == [honest.address, corrupt.address]
    assert victim.holders("b.txt") == [corrupt.address, honest.address]
    assert corrupt.ping()["recheck"] == [A]
    assert corrupt.ping()["recheck"] == []


def test_a_report_without_a_ticket_counts_for_its_user_only(world: TrackerFixture) -> None:
    """The release before sends none."""
    corrupt, honest, victim = swarm(world)
    assert report(victim, corrupt.address) == 200
    assert victim.holders("a.txt") == [honest.address, corrupt.address]
    assert victim.holders("b.txt") == [corrupt.address, honest.address]
    same_user, other = world.peer("victim", "127.0.0.1:5008"), world.peer("other", "127.0.0.1:5009")
    assert same_user.holders("a.txt") == [honest.address, corrupt.address]
    assert other.holders("a.txt") == [corrupt.address, honest.address]
    assert corrupt.ping()["recheck"] == []
    assert query_and_report(victim, corrupt.address) == 200
    assert other.holders("a.txt") == [honest.address, corrupt.address]
    assert corrupt.ping()["recheck"] == [A]


@pytest.mark.parametrize(
    "fault",
    ["other id", "other requester", "to write", "other holder's key", "truncated", "changed", "empty", "no text"],
)
def test_a_report_with_a_ticket_that_proves_nothing_is_refused(world: TrackerFixture, fault: str) -> None:
    corrupt, honest, victim = swarm(world)
    good = victim.tickets("a.txt")[corrupt.address]
    tickets: dict[str, Callable[[], str]] = {
        "other id": lambda: victim.tickets("b.txt")[corrupt.address],
        "other requester": lambda: world.peer("other", "127.0.0.1:5009").tickets("a.txt")[corrupt.address],
        "to write": lambda: write_ticket(victim, corrupt),
        "other holder's key": lambda: good[:-43] + victim.tickets("a.txt")[honest.address][-43:],
        "truncated": lambda: good[:40],
        "changed": lambda: good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:],
        "empty": str,
        "no text": lambda: "\u00e9" * 30,
    }
    ticket = tickets[fault]()
    assert report(victim, corrupt.address, ticket=ticket) == 403
    assert victim.holders("a.txt") == [corrupt.address, honest.address]
    assert corrupt.ping()["recheck"] == []


def write_ticket(uploader: Peer, receiver: Peer) -> str:
    receiver.share("b.txt", version="2")
    receiver.ping("2")
    body = {"files": [{"name": "a.txt", "id": A, "size": 10}], "copies": 9}
    targets = uploader.call("POST", "/upload", body).json["targets"]  # type: ignore[index]
    (ticket,) = (target["ticket"] for target in targets if target["url"] == receiver.address)
    receiver.share("a.txt", "b.txt")
    return str(ticket)


def test_a_ticket_proves_a_report_for_a_day(world: TrackerFixture) -> None:
    corrupt, _, victim = swarm(world)
    ticket = victim.tickets("a.txt")[corrupt.address]
    world.clock.advance(86_399)
    corrupt.share("a.txt")
    victim.ping()
    assert report(victim, corrupt.address, ticket=ticket) == 200
    assert corrupt.ping()["recheck"] == [A]
    world.clock.advance(2)
    assert report(victim, corrupt.address, ticket=ticket) == 403


def test_the_ticket_says_which_holder_is_reported(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    assert report(victim, honest.address, ticket=victim.tickets("a.txt")[corrupt.address]) == 200
    assert (corrupt.ping()["recheck"], honest.ping()["recheck"]) == ([A], [])


@pytest.mark.parametrize("with_ticket", [True, False])
def test_a_report_about_an_offline_holder_is_ignored(world: TrackerFixture, with_ticket: bool) -> None:
    corrupt, _, victim = swarm(world)
    ticket = victim.tickets("a.txt")[corrupt.address]
    corrupt.call("POST", "/logout")
    assert report(victim, corrupt.address, **({"ticket": ticket} if with_ticket else {})) == 200


def test_a_ticket_for_an_ended_session_of_the_holder_proves_nothing(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    ticket = victim.tickets("a.txt")[corrupt.address]
    again = world.peer("corrupt", corrupt.address)
    again.share("a.txt", "b.txt")
    assert report(victim, corrupt.address, ticket=ticket) == 200
    assert victim.holders("a.txt") == [again.address, honest.address]


def test_a_holder_that_withdraws_its_corrupt_copy_is_not_offered(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    query_and_report(victim, corrupt.address)
    corrupt.ping()
    change = {"base_version": "1", "version": "2", "add": [], "remove": [{"name": "a.txt", "id": A}]}
    assert corrupt.call("PATCH", "/index", change).status_code == 200
    assert victim.holders("a.txt") == [honest.address]


def test_a_recheck_clears_the_holder_for_all_but_the_reporter(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    query_and_report(victim, corrupt.address)
    corrupt.ping()
    corrupt.share("a.txt", "b.txt", version="2")
    assert other.holders("a.txt") == [corrupt.address, honest.address]
    assert victim.holders("a.txt") == [honest.address, corrupt.address]


def test_the_holder_is_cleared_some_time_after_it_was_asked_to_recheck(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    query_and_report(victim, corrupt.address)
    corrupt.ping()
    for _ in range(8):
        world.clock.advance(20)
        for peer in (corrupt, victim, other):
            peer.ping()
        honest.ping(uploads=9)
    assert other.holders("a.txt") == [corrupt.address, honest.address]


def test_many_accounts_together_cannot_hide_an_honest_holder(world: TrackerFixture) -> None:
    _, honest, victim = swarm(world)
    honest.ping()
    rechecks = 0
    for number in range(50):
        reporter = world.peer(f"reporter{number}", f"127.0.0.1:{6000 + number}")
        assert query_and_report(reporter, honest.address) == 200
        rechecks += len(honest.ping()["recheck"])
        assert honest.address in victim.holders("a.txt")
    assert rechecks == 1, "it hashes once for any number of reports"
    world.clock.advance(20)
    honest.ping()
    honest.share("a.txt", "b.txt", version="2")
    victim.ping()
    late = world.peer("late", "127.0.0.1:7000")
    assert query_and_report(late, honest.address) == 200
    assert victim.holders("a.txt")[0] == honest.address
