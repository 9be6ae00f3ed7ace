"""Holders that serve corrupt data, and false reports about honest ones."""

from tracker_fixture import Peer, TrackerFixture, id_of

A = id_of("a.txt")


def report(peer: Peer, url: str, file_id: str = A) -> int:
    return peer.call("POST", "/report", {"id": file_id, "url": url, "reason": "piece 3 did not verify"}).status_code


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
    assert report(victim, corrupt.address) == 200
    assert victim.holders("a.txt") == [honest.address, corrupt.address]
    assert world.peer("other", "127.0.0.1:5009").holders("a.txt") == [honest.address, corrupt.address]
    assert victim.holders("b.txt") == [corrupt.address, honest.address]
    assert corrupt.ping()["recheck"] == [A]
    assert corrupt.ping()["recheck"] == []


def test_a_report_needs_a_ticket_for_the_id(world: TrackerFixture) -> None:
    corrupt, _, victim = swarm(world)
    assert report(victim, corrupt.address) == 403
    victim.holders("b.txt")
    assert report(victim, corrupt.address) == 403


def test_a_report_about_an_offline_holder_is_ignored(world: TrackerFixture) -> None:
    corrupt, _, victim = swarm(world)
    victim.holders("a.txt")
    corrupt.call("POST", "/logout")
    assert report(victim, corrupt.address) == 200


def test_a_holder_that_withdraws_its_corrupt_copy_is_not_offered(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    victim.holders("a.txt")
    report(victim, corrupt.address)
    corrupt.ping()
    change = {"base_version": "1", "version": "2", "add": [], "remove": [{"name": "a.txt", "id": A}]}
    assert corrupt.call("PATCH", "/index", change).status_code == 200
    assert victim.holders("a.txt") == [honest.address]


def test_a_recheck_clears_the_holder_for_all_but_the_reporter(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    victim.holders("a.txt")
    report(victim, corrupt.address)
    corrupt.ping()
    corrupt.share("a.txt", "b.txt", version="2")
    assert other.holders("a.txt") == [corrupt.address, honest.address]
    assert victim.holders("a.txt") == [honest.address, corrupt.address]


def test_the_holder_is_cleared_some_time_after_it_was_asked_to_recheck(world: TrackerFixture) -> None:
    corrupt, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    victim.holders("a.txt")
    report(victim, corrupt.address)
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
        reporter.holders("a.txt")
        assert report(reporter, honest.address) == 200
        rechecks += len(honest.ping()["recheck"])
        assert honest.address in victim.holders("a.txt")
    assert rechecks == 1, "it hashes once for any number of reports"
    world.clock.advance(20)
    honest.ping()
    honest.share("a.txt", "b.txt", version="2")
    victim.ping()
    late = world.peer("late", "127.0.0.1:7000")
    late.holders("a.txt")
    assert report(late, honest.address) == 200
    assert victim.holders("a.txt")[0] == honest.address
