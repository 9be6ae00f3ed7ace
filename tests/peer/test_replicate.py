"""Whom to ask to take copies: as many as lack, nobody twice, and what every peer answered is told."""

from common.control_messages import Fault, Notice, Uploaded
from daemon.commands.replicate import ReplicationPlan
from daemon.errors import NoHolders, QuotaExceeded
from daemon.models import PushTarget, Version

FILM = Version("film.bin", "ab" * 32, 5 << 20)
BEN, CIA, DAN = "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"


def held(id_: str) -> bool:
    return True


def targets(*urls: str) -> list[PushTarget]:
    return [PushTarget(FILM.id, url, "ticket", "") for url in urls]


def test_no_more_are_asked_than_copies_lack() -> None:
    spread = ReplicationPlan([FILM], 2, {FILM.id: [BEN]})
    assert spread.under_replicated(held) == [FILM]
    assert list(spread.assign(targets(CIA, DAN))) == [CIA]


def test_a_peer_that_has_it_or_was_asked_is_not_asked() -> None:
    spread = ReplicationPlan([FILM], 3, {FILM.id: [BEN]})
    assert list(spread.assign(targets(BEN, CIA))) == [CIA]
    spread.record(FILM.id, CIA, QuotaExceeded("full"))
    assert list(spread.assign(targets(BEN, CIA, DAN))) == [DAN]
    assert spread.assign(targets(BEN, CIA, DAN)) == {}


def test_those_who_refused_are_looked_beyond() -> None:
    spread = ReplicationPlan([FILM], 1, {})
    before = spread.peers_needed()
    spread.assign(targets(BEN))
    spread.record(FILM.id, BEN, QuotaExceeded("full"))
    assert spread.peers_needed() == before + 1


def test_enough_copies_end_it() -> None:
    spread = ReplicationPlan([FILM], 1, {})
    spread.assign(targets(BEN))
    spread.record(FILM.id, BEN, None)
    assert spread.under_replicated(held) == []
    assert spread.is_holder(FILM.id, BEN)
    assert list(spread.results()) == [Uploaded(FILM.name, FILM.id, FILM.size, (BEN,))]


def test_too_few_copies_are_a_notice_with_every_reason_once() -> None:
    spread = ReplicationPlan([FILM], 3, {FILM.id: [BEN]})
    spread.assign(targets(CIA, DAN))
    spread.record(FILM.id, CIA, QuotaExceeded(f"{CIA}: full"))
    spread.record(FILM.id, CIA, QuotaExceeded("full"))
    notice, uploaded = spread.results()
    what_to_do = "no other peer has room or lacks it: run it again when more are there"
    assert notice == Notice(f"film.bin: 1 of 3 copies; {CIA}: full; {what_to_do}")
    assert uploaded == Uploaded(FILM.name, FILM.id, FILM.size, (BEN,))


def test_no_copy_at_all_is_a_fault_that_says_why() -> None:
    spread = ReplicationPlan([FILM], 1, {})
    spread.assign(targets(BEN))
    spread.record(FILM.id, BEN, NoHolders("gone"))
    (fault,) = spread.results()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.name) == ("no_active_peer", "film.bin")
    assert f"{BEN}: gone" in fault.message


def test_what_is_removed_meanwhile_is_pushed_no_further_and_says_who_has_it() -> None:
    spread = ReplicationPlan([FILM], 2, {FILM.id: [BEN]})
    assert spread.under_replicated(lambda id_: False) == []
    (fault,) = spread.results()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.name) == ("no_such_file", "film.bin")
    assert f"{BEN} has a copy" in fault.message


def test_what_is_removed_when_there_are_copies_enough_was_uploaded() -> None:
    spread = ReplicationPlan([FILM], 1, {FILM.id: [BEN]})
    assert spread.under_replicated(lambda id_: False) == []
    assert list(spread.results()) == [Uploaded(FILM.name, FILM.id, FILM.size, (BEN,))]
