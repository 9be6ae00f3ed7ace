"""A replication plan assigns missing copies only, tries no peer twice, and reports every refusal."""

from common.control_messages import Fault, Hint, Notice, Uploaded
from daemon.commands.replicate import ReplicationPlan, SharedFile
from daemon.errors import NoHolders, QuotaExceeded
from daemon.models import Holder, PushTarget, RemoteFile, Version

FILM = Version("film.bin", "ab" * 32, 5 << 20)
SAME = FILM._replace(name="b/film.bin")
BEN, CIA, DAN = "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"


def is_shared(id_: str) -> bool:
    return True


def targets(*urls: str, version: Version = FILM) -> list[PushTarget]:
    return [PushTarget(version.name, version.id, url, "ticket", "") for url in urls]


def held_by(*urls: str, version: Version = FILM, has_name: bool = True) -> RemoteFile:
    return RemoteFile(version, tuple(Holder(url, "ticket", True, "", has_name) for url in urls))


def test_only_missing_copies_are_assigned() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 2, [held_by(BEN)])
    assert plan.under_replicated(is_shared) == [FILM]
    assert list(plan.assign(targets(CIA, DAN))) == [CIA]


def test_a_holder_or_a_peer_that_was_tried_is_not_assigned() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 3, [held_by(BEN)])
    assert list(plan.assign(targets(BEN, CIA))) == [CIA]
    plan.record(FILM, CIA, QuotaExceeded("full"))
    assert list(plan.assign(targets(BEN, CIA, DAN))) == [DAN]
    assert plan.assign(targets(BEN, CIA, DAN)) == {}


def test_a_refusal_needs_one_more_receiver() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 1, [])
    before = plan.receivers_needed()
    plan.assign(targets(BEN))
    plan.record(FILM, BEN, QuotaExceeded("full"))
    assert plan.receivers_needed() == before + 1


def test_enough_copies_complete_the_upload() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 1, [])
    plan.assign(targets(BEN))
    plan.record(FILM, BEN, None)
    assert plan.under_replicated(is_shared) == []
    assert list(plan.results()) == [Uploaded(FILM.name, FILM.id, FILM.size, (BEN,), (0, 2))]


def test_too_few_copies_are_a_notice_with_each_refusal_once() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 3, [held_by(BEN)])
    plan.assign(targets(CIA, DAN))
    plan.record(FILM, CIA, QuotaExceeded(f"{CIA}: full"))
    plan.record(FILM, CIA, QuotaExceeded("full"))
    notice, uploaded = plan.results()
    assert notice == Notice(f"film.bin: 1 of 3 copies; {CIA}: full; no other eligible peer is online")
    assert uploaded == Uploaded(FILM.name, FILM.id, FILM.size, (BEN,), (0, 2))


def test_an_upload_without_any_copy_is_a_fault_with_the_refusals() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 1, [])
    plan.assign(targets(BEN))
    plan.record(FILM, BEN, NoHolders("gone"))
    (fault,) = plan.results()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.name, fault.arguments) == ("no_active_peer", "film.bin", (0, 2))
    assert fault.message == f"film.bin is shared, but no online peer stored a copy; {BEN}: gone"


def test_a_file_removed_during_its_upload_is_a_fault_that_names_its_copies() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 2, [held_by(BEN)])
    assert plan.under_replicated(lambda id_: False) == []
    (fault,) = plan.results()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.name, fault.arguments) == ("no_such_file", "film.bin", (0, 2))
    assert f"{BEN} has a copy" in fault.message


def test_a_file_removed_after_enough_copies_was_uploaded() -> None:
    plan = ReplicationPlan([SharedFile(FILM, (0, 2))], 1, [held_by(BEN)])
    assert plan.under_replicated(lambda id_: False) == []
    assert list(plan.results()) == [Uploaded(FILM.name, FILM.id, FILM.size, (BEN,), (0, 2))]


def test_without_an_online_peer_the_fault_says_that_the_file_is_shared() -> None:
    (fault,) = ReplicationPlan([SharedFile(FILM)], 1, []).results()
    assert isinstance(fault, Fault)
    assert fault.message == "film.bin is shared, but no peer is online to store a copy"
    assert fault.hint is Hint.REPEAT_LATER


def test_a_holder_counts_for_the_names_that_it_has() -> None:
    found = [held_by(BEN), held_by(BEN, version=SAME, has_name=False)]
    plan = ReplicationPlan([SharedFile(FILM), SharedFile(SAME)], 1, found)
    assert plan.under_replicated(is_shared) == [SAME]
    assigned = plan.assign([*targets(BEN), *targets(BEN, version=SAME)])
    assert [offer.version for offer in assigned[BEN]] == [SAME]


def test_a_partial_holder_has_no_copy() -> None:
    partial = RemoteFile(FILM, (Holder(BEN, "ticket", False, ""),))
    assert ReplicationPlan([SharedFile(FILM)], 1, [partial]).under_replicated(is_shared) == [FILM]


def test_a_receiver_without_a_name_is_for_all_names_of_the_id() -> None:
    plan = ReplicationPlan([SharedFile(FILM), SharedFile(SAME)], 1, [])
    assigned = plan.assign([PushTarget("", FILM.id, BEN, "ticket", ""), PushTarget("", "cd" * 32, CIA, "ticket", "")])
    assert [(address, offer.version) for address in assigned for offer in assigned[address]] == [
        (BEN, FILM),
        (BEN, SAME),
    ]


def test_the_tracker_may_spell_a_name_in_another_way() -> None:
    upper = FILM._replace(name="FILM.BIN")
    assert ReplicationPlan([SharedFile(FILM)], 1, [held_by(BEN, version=upper)]).under_replicated(is_shared) == []
    plan = ReplicationPlan([SharedFile(FILM)], 1, [])
    assert [offer.version for offer in plan.assign(targets(BEN, version=upper))[BEN]] == [FILM]
