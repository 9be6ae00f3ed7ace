"""Online peers and their files: claims that hold for every implementation of Index."""

import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tracker.errors import SendIndex, TooLarge
from tracker.index import Index
from tracker.memory_index import MemoryIndex
from tracker.models import IndexEntry, Load, Session
from tracker.names import fold

TIMEOUT = 25.0
INDEXES = [MemoryIndex]


class Clock:
    """A clock that advances by `step` seconds at each call."""

    def __init__(self) -> None:
        self.time = 0.0
        self.step = 0.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        self.time += self.step
        return self.time


NOW = 1_700_000_000.0


def server_time() -> float:
    return NOW


def session(number: int, user: str = "ana") -> Session:
    return Session(f"{number:032x}", user, f"127.0.0.1:{5000 + number}", True, f"{number:064x}", bytes(32), 0.0)


def file(
    name: str,
    contents: int = 1,
    size: int = 10,
    complete: bool = True,
    modified: float | None = None,
    executable: bool | None = None,
) -> IndexEntry:
    return (name, bytes([contents]) * 32, size, complete, modified, executable)


ANA, BOB = session(1), session(2, "bob")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=INDEXES, ids=lambda cls: cls.__name__)
def index(request: pytest.FixtureRequest, clock: Clock) -> Index:
    make: Callable[..., Index] = request.param
    return make(clock, server_time, TIMEOUT)


def holders(index: Index, name: str) -> list[str]:
    return [h.session.address for version in index.by_names([name], 9) for h in version.holders]


def has_version(index: Index, who: Session, version: str) -> bool:
    """Whether these are the files that the peer announced last. This is a ping, as far as the index can tell."""
    return not index.ping(who, index.epoch, version)


def test_an_announce_changes_no_files_of_another_peer(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    index.replace(BOB, "1", [file("a.txt")])
    index.replace(ANA, "2", [])
    assert holders(index, "a.txt") == [BOB.address]


def test_a_peer_that_moves_keeps_its_files_and_its_time_of_life(index: Index, clock: Clock) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    index.ping(ANA, index.epoch, "1", Load(uploads=3))
    clock.time = 10.0
    moved = replace(ANA, address="203.0.113.9:5001", loopback=False)
    index.move_peer(moved)
    [version] = index.by_names(["a.txt"], 9)
    assert [(holder.session, holder.load.uploads) for holder in version.holders] == [(moved, 3)]
    assert index.holders_at(ANA.address, version.id) == []
    assert [holder.session for holder in index.holders_at(moved.address, version.id)] == [moved]
    assert index.online_peers()[0].last_seen == 10.0
    assert has_version(index, moved, "1")
    index.remove_peer(ANA.peer_id)
    assert index.holders_at(moved.address, version.id) == []
    index.move_peer(moved)
    assert index.online_peers() == [], "a peer that is offline stays offline"


def test_a_silent_peer_is_removed_with_its_files_exactly_at_the_timeout(index: Index, clock: Clock) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    clock.time = TIMEOUT - 0.001
    assert holders(index, "a.txt") == [ANA.address]
    clock.time = TIMEOUT
    assert holders(index, "a.txt") == []
    assert index.totals() == (0, 0, 0, 0)
    assert not has_version(index, ANA, "1"), "a returning peer has to send its complete index"


@pytest.mark.parametrize(
    ("ask", "there", "gone"),
    [
        (lambda index: index.online([ANA.peer_id, BOB.peer_id]), {ANA.peer_id}, set()),
        (lambda index: index.ping(ANA, index.epoch, "1"), False, True),
        (lambda index: len(index.by_names(["a.txt"], 9)), 1, 0),
        (lambda index: len(index.by_ids([bytes([1]) * 32], 9)), 1, 0),
        (lambda index: index.holders([(ANA.peer_id, bytes([1]) * 32)]) == [None], False, True),
        (lambda index: len(index.holders_at(ANA.address, bytes([1]) * 32)), 1, 0),
        (lambda index: list(map(len, index.some_holders([bytes([1]) * 32], 9))), [1], [0]),
        (lambda index: index.copies([("a.txt", bytes([1]) * 32)], 9)[0].users, {"ana"}, set()),
        (lambda index: len(index.copies([("b.txt", bytes([1]) * 32)], 9)[0].content_holders), 1, 0),
        (lambda index: index.can_receive([(ANA.peer_id, "b.txt", bytes(32))]), [True], [False]),
        (lambda index: len(index.online_peers()), 1, 0),
        (lambda index: len(index.some_peers(9)), 1, 0),
        (lambda index: len(index.page("", None, 9)[0]), 1, 0),
        (lambda index: index.single_copies("", 9).contents, 1, 0),
        (lambda index: index.totals().peers, 1, 0),
    ],
)
def test_every_query_method_applies_the_timeout(
    index: Index, clock: Clock, ask: Callable[[Index], object], there: object, gone: object
) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    assert ask(index) == there
    clock.time = TIMEOUT
    assert ask(index) == gone


@pytest.mark.parametrize("way", ["leaves", "is silent"])
def test_files_of_a_removed_peer_do_not_count_for_the_account(clock: Clock, way: str) -> None:
    index = MemoryIndex(clock, server_time, TIMEOUT, files_per_user=2)
    for number in range(3):
        index.replace(session(number), "1", [file("a.txt"), file("b.txt")])
        with pytest.raises(TooLarge):
            index.replace(session(9), "1", [file("c.txt")])
        if way == "leaves":
            index.remove_peer(session(number).peer_id)
        else:
            clock.time += TIMEOUT


def test_a_ping_keeps_a_peer_online_and_updates_its_load(index: Index, clock: Clock) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    clock.time = 20
    index.ping(ANA, index.epoch, "1", Load(uploads=3))
    clock.time = 40
    index.ping(ANA, index.epoch, "1")
    assert [peer.load.uploads for peer in index.online_peers()] == [3]
    assert holders(index, "a.txt") == [ANA.address]


def test_a_peer_that_knows_another_epoch_has_to_send_its_complete_index(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    assert index.ping(ANA, "another", "1")
    assert not index.ping(ANA, index.epoch, "1")


def test_two_indexes_have_different_epochs(clock: Clock) -> None:
    assert MemoryIndex(clock, server_time, TIMEOUT).epoch != MemoryIndex(clock, server_time, TIMEOUT).epoch


def test_a_sample_of_many_peers_differs_each_time_and_reaches_all_of_them(index: Index) -> None:
    for number in range(100):
        index.replace(session(number), "1", [])
    for number in range(0, 100, 3):
        index.remove_peer(session(number).peer_id)
    online = {peer.session.peer_id for peer in index.online_peers()}
    seen = set()
    for _ in range(100):
        sample = {peer.session.peer_id for peer in index.some_peers(20)}
        assert len(sample) == 20 and sample <= online
        seen |= sample
    assert seen == online


def test_the_versions_of_many_names_are_in_the_order_of_the_names(index: Index) -> None:
    index.replace(ANA, "1", [file("a", 3), file("b", 2), file("c", 1)])
    index.replace(BOB, "1", [file("b", 1)])
    assert [(v.name, v.id[0]) for v in index.by_names(["c", "none", "b"], 9)] == [("c", 1), ("b", 1), ("b", 2)]
    found = index.by_ids([bytes([2]) * 32, bytes([9]) * 32, bytes([1]) * 32], 9)
    assert [(v.name, v.id[0]) for v in found] == [("b", 2), ("b", 1), ("c", 1)]


def test_one_id_under_two_names_is_one_file(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    index.replace(BOB, "1", [file("b.txt", complete=False)])
    (found,) = index.by_names(["a.txt"], 9)
    assert [(h.session.user, h.complete) for h in found.holders] == [("ana", True), ("bob", False)]
    assert [version.name for version in index.by_ids([found.id], 9)] == ["a.txt", "b.txt"]


def test_a_holder_of_a_version_has_its_name_or_only_its_content(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt"), file("b.txt")])
    index.replace(BOB, "1", [file("B.txt", complete=False)])
    index.replace(session(3), "1", [file("a.txt", 2), file("c.txt")])

    def having(name: str) -> dict[str, bool]:
        (version,) = [v for v in index.by_names([name], 9) if v.id[0] == 1]
        return {h.session.peer_id: h.has_name for h in version.holders}

    assert having("A.TXT") == {ANA.peer_id: True, BOB.peer_id: False, session(3).peer_id: False}
    assert having("b.txt") == {ANA.peer_id: True, BOB.peer_id: True, session(3).peer_id: False}
    by_id = {v.name: [h.has_name for h in v.holders] for v in index.by_ids([bytes([1]) * 32], 9)}
    assert by_id == {"a.txt": [True, False, False], "B.txt": [True, True, False], "c.txt": [False, False, True]}


def test_each_name_of_some_content_has_copies_of_its_own(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt"), file("b.txt", complete=False)])
    index.replace(BOB, "1", [file("A.txt", complete=False)])
    index.replace(session(3, "eve"), "1", [file("b.txt")])
    index.replace(session(4, "zoe"), "1", [file("b.txt", 2), file("c.txt")])
    content = bytes([1]) * 32
    a, b, nothing = index.copies([("a.txt", content), ("b.txt", content), ("a.txt", bytes(32))], 9)
    assert (a.users, b.users) == ({"ana"}, {"eve"})
    assert [h.session.user for h in a.content_holders] == ["eve", "zoe"], "they lack only the name"
    assert b.content_holders == [], "ana is storing it, zoe has other content there"
    assert (len(nothing.users), len(nothing.content_holders)) == (0, 0)
    assert [len(found.content_holders) for found in index.copies([("a.txt", content)], 1)] == [1]
    peers = [ANA.peer_id, BOB.peer_id, session(3).peer_id, session(4).peer_id, session(5).peer_id]
    receives = {name: index.can_receive([(peer, name, content) for peer in peers]) for name in ("a.txt", "b.txt")}
    assert receives == {"a.txt": [False, True, True, True, False], "b.txt": [True, True, False, False, False]}


def test_a_name_has_one_version_for_each_id(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt", 2)])
    index.replace(BOB, "1", [file("a.txt", 1)])
    assert [version.id[0] for version in index.by_names(["a.txt"], 9)] == [1, 2]


def test_names_equal_after_folding_are_one_name_at_one_peer(index: Index) -> None:
    index.replace(ANA, "1", [file("A.txt", 1), file("a.TXT", 2)])
    assert [(v.name, v.id[0]) for v in index.by_names(["A.txt"], 9)] == [("a.TXT", 2)]
    assert index.online_peers()[0].files == 1


# Spellings of one name: the first is as macOS writes it, the second as everyone types it.
COMPOSED, DECOMPOSED = "B\u00fccher/Caf\u00e9.TXT", "Bu\u0308cher/Cafe\u0301.txt"


@pytest.mark.parametrize(
    ("stored", "asked"), [("Report.PDF", "report.pdf"), (DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED)]
)
def test_a_name_is_found_and_removed_in_any_spelling(index: Index, stored: str, asked: str) -> None:
    index.replace(ANA, "1", [file(stored)])
    assert [(v.name, v.id[0]) for v in index.by_names([asked], 9)] == [(stored, 1)]
    for match in (asked, asked.upper(), asked[-3:], "*" + asked.rpartition("/")[2]):
        assert [row.name for row in index.page(match, None, 9)[0]] == [stored]
        assert [row.name for row in index.single_copies(match, 9).first] == [stored]
    index.patch(ANA, "1", "2", [], [(asked, bytes([2]) * 32)])
    assert holders(index, stored) == [ANA.address], "another id is not removed"
    for _ in range(2):
        index.patch(ANA, "2", "3", [], [(asked, bytes([1]) * 32)])
        assert holders(index, stored) == []
    assert index.totals() == (1, 0, 0, 0)


def test_spellings_of_one_version_are_one_version(index: Index) -> None:
    index.replace(ANA, "1", [file("a.TXT")])
    index.replace(BOB, "1", [file("A.txt"), file("B.txt")])
    index.replace(session(3), "1", [file("A.txt", complete=False)])
    assert [(v.name, len(v.holders)) for v in index.by_names(["a.txt"], 9)] == [("A.txt", 3)], "most peers have this"
    assert [v.name for v in index.by_names(["a.TXT"], 9)] == ["a.TXT"], "as requested, if a peer has it"
    assert [v.name for v in index.by_ids([bytes([1]) * 32], 9)] == ["A.txt", "B.txt"]
    rows, _ = index.page("", None, 9)
    assert [(row.name, row.holders, row.partial) for row in rows] == [("A.txt", 2, 1), ("B.txt", 2, 1)]
    assert index.totals().names == 2
    index.remove_peer(BOB.peer_id)
    index.remove_peer(session(3).peer_id)
    assert [v.name for v in index.by_names(["A.txt"], 9)] == ["a.TXT"]
    assert index.totals() == (1, 1, 1, 1)


def test_a_page_that_ends_between_two_versions_of_a_name_continues_with_the_second(index: Index) -> None:
    index.replace(ANA, "1", [file("\u00c4.txt", 1)])
    index.replace(BOB, "1", [file("\u00e4.txt", 2)])
    rows, after = index.page("", None, 1)
    rest, end = index.page("", after, 1)
    assert [(row.name, row.id[0]) for row in rows + rest] == [("\u00c4.txt", 1), ("\u00e4.txt", 2)]
    assert end is None


def test_a_change_of_another_base_version_is_refused_completely(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    index.patch(ANA, "1", "2", [file("b.txt", 2)], [("a.txt", bytes([1]) * 32)])
    assert (holders(index, "a.txt"), holders(index, "b.txt")) == ([], [ANA.address])
    with pytest.raises(SendIndex):
        index.patch(ANA, "1", "3", [file("c.txt", 3)], [])
    assert holders(index, "c.txt") == []
    assert has_version(index, ANA, "2")


def test_a_repeated_change_is_accepted_and_a_different_one_with_its_versions_is_refused(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    change = ([file("b.txt", 2)], [("a.txt", bytes([1]) * 32)])
    index.patch(ANA, "1", "2", *change)
    index.patch(ANA, "1", "2", *change)
    assert holders(index, "b.txt") == [ANA.address]
    with pytest.raises(SendIndex):
        index.patch(ANA, "1", "2", [file("c.txt", 3)], [])


def test_a_change_removes_before_it_adds(index: Index) -> None:
    index.replace(ANA, "1", [file("a.txt")])
    index.patch(ANA, "1", "2", [file("a.txt")], [("a.txt", bytes([1]) * 32)])
    assert holders(index, "a.txt") == [ANA.address]


def test_a_change_before_the_complete_index_is_refused(index: Index) -> None:
    with pytest.raises(SendIndex):
        index.patch(ANA, "", "1", [file("a.txt")], [])


def test_the_size_of_an_id_is_what_most_holders_announce(index: Index) -> None:
    index.replace(session(9), "1", [file("a.txt", size=1)])
    for number in (1, 2, 3):
        index.replace(session(number), "1", [file("a.txt", size=77)])
    assert index.by_names(["a.txt"], 9)[0].size == 77
    index.remove_peer(session(9).peer_id)
    assert index.by_names(["a.txt"], 9)[0].size == 77


def listed(index: Index, name: str) -> tuple[float | None, bool]:
    """Time and executable bit of the only version of a name, which the list and a query have to agree on."""
    (row,) = index.page(name, None, 9)[0]
    (version,) = index.by_names([name], 9)
    assert (version.modified, version.executable) == (row.modified, row.executable)
    return row.modified, row.executable


def test_time_and_executable_bit_are_those_of_the_name(index: Index) -> None:
    index.replace(ANA, "1", [file("run.sh", modified=1.5, executable=True), file("run.txt", modified=2.5)])
    assert (listed(index, "run.sh"), listed(index, "run.txt")) == ((1.5, True), (2.5, False))
    assert {v.name: v.modified for v in index.by_ids([bytes([1]) * 32], 9)} == {"run.sh": 1.5, "run.txt": 2.5}
    index.patch(ANA, "1", "2", [file("run.sh", modified=7.5, executable=False)], [])
    assert listed(index, "run.sh") == (7.5, False)


@pytest.mark.parametrize("names", [["a"], ["a", "A"]], ids=["one spelling", "two spellings"])
@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        ([(5.0, True)], (5.0, True)),
        ([(5.0, True), (None, None), (None, None)], (5.0, True)),
        ([(None, None), (5.0, True), (6.0, True)], (6.0, True)),
        ([(5.0, False), (5.0, False), (9.0, True)], (5.0, False)),
        ([(9.0, True), (5.0, False), (5.0, False)], (5.0, False)),
        ([(5.0, False), (9.0, True)], (9.0, True)),
        ([(9.0, True), (5.0, False)], (9.0, True)),
        ([(NOW + 61, None), (NOW + 61, None), (5.0, None)], (5.0, False)),
        ([(NOW + 61, None)], (None, False)),
        ([(NOW + 59.5, None)], (NOW + 59.5, False)),
        ([(-1e300, None), (-1.5, None)], (-1.5, False)),
    ],
)
def test_the_time_and_the_executable_bit_that_most_holders_announce_count(
    index: Index, names: list[str], announced: list[tuple[float | None, bool | None]], expected: tuple[float, bool]
) -> None:
    index.replace(session(9), "1", [file("a", modified=77.0, executable=True)])
    for number, (modified, executable) in enumerate(announced):
        entry = file(names[number % len(names)], modified=modified, executable=executable)
        index.replace(session(10 + number), "1", [entry])
    index.remove_peer(session(9).peer_id)
    assert listed(index, "a") == expected


def test_a_change_of_the_time_alone_is_no_repetition_of_another_change(index: Index) -> None:
    index.replace(ANA, "1", [])
    index.replace(BOB, "1", [file("a", modified=3.0)])
    index.patch(ANA, "1", "2", [file("a", modified=1.0)], [])
    index.patch(ANA, "1", "2", [file("a", modified=1.0)], [])
    with pytest.raises(SendIndex):
        index.patch(ANA, "1", "2", [file("a", modified=2.0)], [])


def test_the_file_limit_counts_all_peers_of_an_account(clock: Clock) -> None:
    index = MemoryIndex(clock, server_time, TIMEOUT, files_per_user=3)
    index.replace(session(1), "1", [file("a", 1), file("b", 2)])
    with pytest.raises(TooLarge):
        index.replace(session(2), "1", [file("a", 1), file("b", 2)])
    index.replace(BOB, "1", [file("a", 1), file("b", 2), file("c", 3)])
    index.remove_peer(session(1).peer_id)
    index.replace(session(2), "1", [file("a", 1), file("b", 2)])


def test_the_file_limit_counts_what_is_left_after_a_change(clock: Clock) -> None:
    index = MemoryIndex(clock, server_time, TIMEOUT, files_per_user=3)
    index.replace(ANA, "1", [file("a", 1, complete=False), file("b", 2, complete=False), file("c", 3)])
    index.patch(ANA, "1", "2", [file("a", 1), file("B", 2)], [])
    assert index.by_names(["a"], 9)[0].holders[0].complete
    index.patch(ANA, "2", "3", [file("d", 4)], [("c", bytes([3]) * 32)])
    with pytest.raises(TooLarge):
        index.patch(ANA, "3", "4", [file("e", 5)], [("nothing", bytes(32)), ("d", bytes(32))])
    assert index.online_peers()[0].files == 3


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("", ["A/one.txt", "a/two.bin", "b.txt", "café.txt"]),
        ("TXT", ["A/one.txt", "b.txt", "café.txt"]),
        ("a/", ["A/one.txt", "a/two.bin"]),
        ("*.txt", ["A/one.txt", "b.txt", "café.txt"]),
        ("?.txt", ["b.txt"]),
        ("a*", ["A/one.txt", "a/two.bin"]),
        ("*o*e*", ["A/one.txt"]),
        ("CAF\u00c9*", ["café.txt"]),
        ("[a]*", []),
        ("*", ["A/one.txt", "a/two.bin", "b.txt", "café.txt"]),
        ("b.txt?", []),
        ("*one.txt*two*", []),
    ],
)
def test_a_search_matches_a_part_of_the_name_or_a_pattern_for_the_whole_name(
    index: Index, match: str, expected: list[str]
) -> None:
    names = ["A/one.txt", "a/two.bin", "b.txt", "cafe\u0301.txt"]
    index.replace(ANA, "1", [file(name, at) for at, name in enumerate(names)])
    rows, place = index.page(match, None, 10)
    assert [row.name for row in rows] == [name.replace("caf\u00e9", "cafe\u0301") for name in expected]
    assert place is None


def test_the_pages_together_list_everything_in_order(index: Index) -> None:
    index.replace(ANA, "1", [file(f"{n:03}", n) for n in range(100)])
    index.replace(BOB, "1", [file(f"{n:03}", n + 1) for n in range(100)])
    seen: list[tuple[str, bytes]] = []
    after = None
    while True:
        rows, after = index.page("", after, 7)
        seen += [(row.name, row.id) for row in rows]
        if after is None:
            break
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) == 200


def test_a_pattern_made_to_backtrack_is_fast(index: Index) -> None:
    index.replace(ANA, "1", [file("a" * 200)])
    assert index.page("*a" * 60 + "*b", None, 10) == ([], None)


def test_a_search_that_times_out_continues_with_the_next_page(index: Index, clock: Clock) -> None:
    names = [f"{n:04}" for n in range(1000)]
    index.replace(ANA, "1", [file(name, 1 + n % 200) for n, name in enumerate(names)])
    clock.step = 0.05
    found: list[str] = []
    after, requests = None, 0
    while requests < 1000:
        began = clock.asked
        rows, after = index.page("*?9?", after, 30)
        assert clock.asked - began < 100
        found += [row.name for row in rows]
        requests += 1
        if after is None:
            break
    assert found == [name for name in names if name[2] == "9"]
    assert 1 < requests < 100


def test_a_search_for_single_copies_stops_at_its_timeout(index: Index, clock: Clock) -> None:
    index.replace(ANA, "1", [file(f"{n:04}", 1) for n in range(1000)])
    clock.step = 0.05
    single = index.single_copies("*x*", 10)
    assert (single.contents, single.first, single.more) == (1, [], True)


def test_an_id_with_a_million_names_is_found_under_a_few(index: Index) -> None:
    index.replace(ANA, "1", [file(f"{n:04}", 1) for n in range(1000)])
    assert [version.name for version in index.by_ids([bytes([1]) * 32], 3)] == ["0000", "0001", "0002"]
    for who in range(2, 12):
        index.replace(session(who), "1", [file("a.txt", who)])
    assert len(index.by_names(["a.txt"], 3)) == 3


# Combining marks in the order that takes longest to normalize, in a name of that length.
MARKS = sorted(filter(unicodedata.combining, map(chr, range(0x300, 0x370))), key=unicodedata.combining, reverse=True)


def marked(length: int) -> str:
    return "a" + "".join(mark * (length // len(MARKS)) for mark in MARKS)


def test_names_to_remove_that_no_peer_can_have_are_not_folded(index: Index) -> None:
    """They are not checked, and 5,000 of 4,000 characters fit into one request: folding them would take minutes."""
    index.replace(ANA, "1", [file("a.txt")])
    change = ([file("b.txt", 2)], [(f"{n:03}{marked(3900)}", bytes([1]) * 32) for n in range(150)])
    # CPU time of this thread: other processes do not count in it.
    began = time.thread_time()
    index.patch(ANA, "1", "2", *change)
    index.patch(ANA, "1", "2", *change)
    assert time.thread_time() - began < 1
    assert (holders(index, "a.txt"), holders(index, "b.txt")) == ([ANA.address], [ANA.address])


def test_the_lock_is_not_held_while_names_are_folded(index: Index) -> None:
    index.replace(BOB, "1", [])
    waited = []

    class Name(str):
        """Queries another peer in a thread whenever it is folded."""

        __slots__ = ()

        def isascii(self) -> bool:
            other = threading.Thread(target=index.online, args=([BOB.peer_id],), daemon=True)
            other.start()
            other.join(5)
            waited.append(other.is_alive())
            return super().isascii()

    def named(name: str) -> list[IndexEntry]:
        return [file(Name(name))]

    index.replace(ANA, "1", named("\u00e4.txt"))
    index.patch(ANA, "1", "2", named("\u00f6.txt"), [])
    index.patch(ANA, "1", "2", named("\u00f6.txt"), [])
    assert len(waited) >= 3 and not any(waited)


NAMES = st.sampled_from(["a", "A", "b", "c/d", "stra\u00dfe", "STRASSE"])
IDS = st.integers(1, 4)
FILES = st.lists(st.tuples(NAMES, IDS, st.booleans()), max_size=5)
WHO = st.integers(0, 3)


class IndexMachine(RuleBasedStateMachine):
    """Compares the index with a simple model: peer -> folded name -> (name, id, complete)."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.index = MemoryIndex(self.clock, server_time, TIMEOUT)
        self.files: dict[int, dict[str, tuple[str, int, bool]]] = {}
        self.versions: dict[int, str] = {}
        self.seen: dict[int, float] = {}
        self.serial = 0

    def expire(self) -> None:
        for who, seen in list(self.seen.items()):
            if self.clock.time - seen >= TIMEOUT:
                self.forget(who)

    def forget(self, who: int) -> None:
        for kept in (self.files, self.versions, self.seen):
            kept.pop(who, None)

    def touch(self, who: int) -> None:
        self.expire()
        self.seen[who] = self.clock.time
        self.files.setdefault(who, {})

    @rule(who=WHO, behind=st.booleans())
    def ping(self, who: int, behind: bool) -> None:
        self.touch(who)
        version = "behind" if behind else self.versions.get(who, "none")
        send_index = self.index.ping(session(who), self.index.epoch, version)
        assert send_index == (behind or who not in self.versions)

    @rule(who=WHO)
    def leave(self, who: int) -> None:
        self.index.remove_peer(session(who).peer_id)
        self.forget(who)

    @rule(seconds=st.sampled_from([1.0, 10.0, 24.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(who=WHO, files=FILES)
    def replace(self, who: int, files: list[tuple[str, int, bool]]) -> None:
        self.serial += 1
        self.index.replace(session(who), str(self.serial), [file(n, i, complete=c) for n, i, c in files])
        self.touch(who)
        self.files[who] = {fold(name): (name, contents, complete) for name, contents, complete in files}
        self.versions[who] = str(self.serial)

    @rule(who=WHO, add=FILES, remove=st.lists(st.tuples(NAMES, IDS), max_size=4), stale=st.booleans())
    def patch(self, who: int, add: list[tuple[str, int, bool]], remove: list[tuple[str, int]], stale: bool) -> None:
        self.serial += 1
        self.touch(who)
        base = "stale" if stale else self.versions.get(who, "none")
        change = ([file(n, i, complete=c) for n, i, c in add], [(n, bytes([i]) * 32) for n, i in remove])
        if stale or who not in self.versions:
            with pytest.raises(SendIndex):
                self.index.patch(session(who), base, str(self.serial), *change)
            return
        self.index.patch(session(who), base, str(self.serial), *change)
        mine = self.files[who]
        for name, contents in remove:
            if mine.get(fold(name), ("", 0, False))[1] == contents:
                del mine[fold(name)]
        mine |= {fold(name): (name, contents, complete) for name, contents, complete in add}
        self.versions[who] = str(self.serial)

    @invariant()
    def both_directions_are_exact(self) -> None:
        self.expire()
        spelled: dict[tuple[str, int], list[str]] = {}
        holding: dict[int, dict[int, bool]] = {}
        for who, mine in self.files.items():
            for name, contents, complete in mine.values():
                spelled.setdefault((fold(name), contents), []).append(name)
                held = holding.setdefault(contents, {})
                held[who] = held.get(who, False) or complete
        assert {peer.session.peer_id for peer in self.index.online_peers()} == {
            session(who).peer_id for who in self.seen
        }
        assert {p.session.peer_id: p.files for p in self.index.online_peers()} == {
            session(who).peer_id: len(mine) for who, mine in self.files.items()
        }
        rows, place = self.index.page("", None, 1000)
        assert place is None
        assert [(fold(row.name), row.id[0]) for row in rows] == sorted(spelled)
        assert [row.name for row in rows] == [most_used(spelled[version]) for version in sorted(spelled)]
        for name in ("a", "A", "STRASSE", "Stra\u00dfe"):
            assert [(v.name, v.id[0]) for v in self.index.by_names([name], 99)] == [
                (name if name in spelled[folded, contents] else most_used(spelled[folded, contents]), contents)
                for folded, contents in sorted(spelled)
                if folded == fold(name)
            ]
        for row in rows:
            whole = sum(holding[row.id[0]].values())
            assert (row.holders, row.partial) == (whole, len(holding[row.id[0]]) - whole)
        for contents, held in holding.items():
            for version in self.index.by_ids([bytes([contents]) * 32], 99):
                assert {h.session.peer_id: h.complete for h in version.holders} == {
                    session(who).peer_id: complete for who, complete in held.items()
                }
                assert (fold(version.name), contents) in spelled
                assert {h.session.peer_id for h in version.holders if h.has_name} == {
                    session(who).peer_id
                    for who, mine in self.files.items()
                    if mine.get(fold(version.name), ("", 0))[1] == contents
                }
        for contents in range(1, 5):
            if contents not in holding:
                assert self.index.by_ids([bytes([contents]) * 32], 99) == []
        entries = sum(len(held) for held in holding.values())
        assert self.index.totals() == (len(self.seen), len(holding), len(spelled), entries)

    @invariant()
    def batches_have_one_result_for_each_item_in_order(self) -> None:
        self.expire()
        peers = [session(who).peer_id for who in range(4)]
        online = {session(who).peer_id for who in self.seen}
        assert self.index.online(peers) == online
        assert {peer.session.peer_id for peer in self.index.some_peers(9)} == online
        assert len({peer.session.peer_id for peer in self.index.some_peers(2)} & online) == min(2, len(online))
        holding = [
            {who: any(e[2] for e in has) for who, mine in self.files.items() if (has := holds(mine, contents))}
            for contents in range(1, 5)
        ]
        ids = [bytes([contents]) * 32 for contents in range(1, 5)]
        pairs = [(peer_id, file_id) for file_id in ids for peer_id in peers]
        assert [holder and holder.complete for holder in self.index.holders(pairs)] == [
            held.get(who) for held in holding for who in range(4)
        ]
        for some, held in zip(self.index.some_holders(ids, 9), holding, strict=True):
            assert {h.session.peer_id: h.complete for h in some} == {session(who).peer_id: held[who] for who in held}
        assert [len(some) for some in self.index.some_holders(ids, 1)] == [min(1, len(held)) for held in holding]
        files = [(name, file_id) for name in ("a", "b", "strasse") for file_id in ids]
        for (name, file_id), found in zip(files, self.index.copies(files, 9), strict=True):
            under = {who: mine[name] for who, mine in self.files.items() if name in mine}
            whole = {who for who, entry in under.items() if entry[1] == file_id[0] and entry[2]}
            assert found.users == {session(who).user for who in whole}
            assert {h.session.peer_id for h in found.content_holders} == {
                peers[who] for who, complete in holding[file_id[0] - 1].items() if complete and who not in under
            }
            assert self.index.can_receive([(peer_id, name, file_id) for peer_id in peers]) == [
                who in self.seen and (who not in under or (under[who][1] == file_id[0] and not under[who][2]))
                for who in range(4)
            ]
        for who in range(4):
            for file_id, held in zip(ids, holding, strict=True):
                at = self.index.holders_at(session(who).address, file_id)
                assert {h.session.peer_id: h.complete for h in at} == ({peers[who]: held[who]} if who in held else {})


def most_used(spellings: list[str]) -> str:
    return min(spellings, key=lambda name: (-spellings.count(name), name))


def holds(mine: dict[str, tuple[str, int, bool]], contents: int) -> list[tuple[str, int, bool]]:
    return [entry for entry in mine.values() if entry[1] == contents]


def test_random_operations_keep_both_directions_consistent() -> None:
    run_state_machine_as_test(IndexMachine, settings=settings(max_examples=200, stateful_step_count=50, deadline=None))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_random_operations_keep_both_directions_consistent_for_long() -> None:
    run_state_machine_as_test(IndexMachine, settings=settings(max_examples=5000, stateful_step_count=50, deadline=None))
