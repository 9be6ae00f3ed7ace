"""Lying holders, and lies about holders."""

from tracker_fixture import Peer, TrackerFixture, id_of

A = id_of("a.txt")


def report(peer: Peer, url: str, file_id: str = A) -> int:
    return peer.call("POST", "/report", {"id": file_id, "url": url, "reason": "piece 3 did not verify"}).status_code


def swarm(world: TrackerFixture) -> tuple[Peer, Peer, Peer]:
    liar, honest, victim = (
        world.peer(name, f"127.0.0.1:500{at}") for at, name in enumerate(("liar", "honest", "victim"))
    )
    liar.share("a.txt", "b.txt")
    honest.share("a.txt", "b.txt")
    honest.ping(uploads=9)
    return liar, honest, victim


def test_a_reported_holder_comes_last_for_that_id_only_and_is_asked_to_hash_it_again(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    assert victim.holders("a.txt") == [liar.address, honest.address]
    assert report(victim, liar.address) == 200
    assert victim.holders("a.txt") == [honest.address, liar.address]
    assert world.peer("other", "127.0.0.1:5009").holders("a.txt") == [honest.address, liar.address]
    assert victim.holders("b.txt") == [liar.address, honest.address]
    assert liar.ping()["recheck"] == [A]
    assert liar.ping()["recheck"] == []


def test_a_report_needs_a_ticket_for_the_id(world: TrackerFixture) -> None:
    liar, _, victim = swarm(world)
    assert report(victim, liar.address) == 403
    victim.holders("b.txt")
    assert report(victim, liar.address) == 403


def test_a_report_about_an_offline_holder_is_ignored(world: TrackerFixture) -> None:
    liar, _, victim = swarm(world)
    victim.holders("a.txt")
    liar.call("POST", "/logout")
    assert report(victim, liar.address) == 200


def test_a_holder_that_withdraws_its_corrupt_copy_is_not_offered(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    victim.holders("a.txt")
    report(victim, liar.address)
    liar.ping()
    change = {"base_version": "1", "version": "2", "add": [], "remove": [{"name": "a.txt", "id": A}]}
    assert liar.call("PATCH", "/index", change).status_code == 200
    assert victim.holders("a.txt") == [honest.address]


def test_a_recheck_clears_the_holder_for_all_but_the_reporter(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    victim.holders("a.txt")
    report(victim, liar.address)
    liar.ping()
    liar.share("a.txt", "b.txt", version="2")
    assert other.holders("a.txt") == [liar.address, honest.address]
    assert victim.holders("a.txt") == [honest.address, liar.address]


def test_the_holder_is_cleared_some_time_after_it_was_asked_to_recheck(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    victim.holders("a.txt")
    report(victim, liar.address)
    liar.ping()
    for _ in range(8):
        world.clock.advance(20)
        for peer in (liar, victim, other):
            peer.ping()
        honest.ping(uploads=9)
    assert other.holders("a.txt") == [liar.address, honest.address]


def test_many_accounts_together_cannot_hide_an_honest_holder(world: TrackerFixture) -> None:
    _, honest, victim = swarm(world)
    honest.ping()
    rechecks = 0
    for number in range(50):
        accuser = world.peer(f"accuser{number}", f"127.0.0.1:{6000 + number}")
        accuser.holders("a.txt")
        assert report(accuser, honest.address) == 200
        rechecks += len(honest.ping()["recheck"])
        assert honest.address in victim.holders("a.txt")
    assert rechecks == 1, "it hashes once, however many accuse it"
    world.clock.advance(20)
    honest.ping()
    honest.share("a.txt", "b.txt", version="2")
    victim.ping()
    late = world.peer("late", "127.0.0.1:7000")
    late.holders("a.txt")
    assert report(late, honest.address) == 200
    assert victim.holders("a.txt")[0] == honest.address
