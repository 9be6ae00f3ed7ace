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


def test_a_reported_holder_comes_last_for_that_file_only_and_is_asked_to_hash_it_again(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    assert victim.holders("a.txt") == [liar.address, honest.address]
    assert report(victim, liar.address) == 200
    assert victim.holders("a.txt") == [honest.address, liar.address]
    assert world.peer("other", "127.0.0.1:5009").holders("a.txt") == [honest.address, liar.address]
    assert victim.holders("b.txt") == [liar.address, honest.address]
    assert liar.ping()["recheck"] == [A]
    assert liar.ping()["recheck"] == []


def test_only_who_was_given_a_ticket_for_it_may_report(world: TrackerFixture) -> None:
    liar, _, victim = swarm(world)
    assert report(victim, liar.address) == 403
    victim.holders("b.txt")
    assert report(victim, liar.address) == 403


def test_a_holder_that_has_left_is_reported_to_nobody(world: TrackerFixture) -> None:
    liar, _, victim = swarm(world)
    victim.holders("a.txt")
    liar.call("POST", "/logout")
    assert report(victim, liar.address) == 200


def test_a_lie_ends_when_the_holder_finds_its_copy_damaged(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    victim.holders("a.txt")
    report(victim, liar.address)
    liar.ping()
    change = {"base_version": "1", "version": "2", "add": [], "remove": [{"name": "a.txt", "id": A}]}
    assert liar.call("PATCH", "/index", change).status_code == 200
    assert victim.holders("a.txt") == [honest.address]


def test_a_doubt_ends_when_the_holder_has_checked_but_the_reporter_keeps_it(world: TrackerFixture) -> None:
    liar, honest, victim = swarm(world)
    other = world.peer("other", "127.0.0.1:5009")
    victim.holders("a.txt")
    report(victim, liar.address)
    liar.ping()
    liar.share("a.txt", "b.txt", version="2")
    assert other.holders("a.txt") == [liar.address, honest.address]
    assert victim.holders("a.txt") == [honest.address, liar.address]


def test_a_doubt_ends_when_the_holder_has_kept_the_file_for_a_while(world: TrackerFixture) -> None:
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


def test_no_crowd_of_accounts_can_silence_an_honest_holder(world: TrackerFixture) -> None:
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
