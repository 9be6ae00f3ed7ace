"""What the page shows: gathered from a real tracker."""

import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.dashboard import formatting, graph_svg
from tracker.dashboard.activity import MAX_EDGES, TransferEdge
from tracker.dashboard.graph_svg import Dot
from tracker.dashboard.render_cache import RenderCache, TtlCache
from tracker.dashboard.snapshot import (
    MAX_FILE_ROWS,
    MAX_PICTURED,
    MAX_TABLED,
    FileList,
    Snapshot,
    list_files,
    take_snapshot,
)
from tracker_fixture import ManualClock, Peer, id_of
from tracker_fixture import TrackerFixture as Tracker


def look(world: Tracker) -> Snapshot:
    tracker = world.parts.tracker
    return take_snapshot(tracker, tracker.single_copies("", 0), "1", 10)


def listed(world: Tracker, match: str = "", once: bool = False) -> FileList:
    return list_files(world.parts.tracker, look(world), match, once)


def crowd(world: Tracker, number: int) -> list[Peer]:
    return [world.peer(f"u{at % 20:02}", f"127.0.0.1:{6000 + at}") for at in range(number)]


def test_what_one_peer_only_holds_is_counted_and_listed(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("both.txt", "only-ana.txt")
    ben.share("both.txt")
    assert look(world).single_copies.contents == 1
    assert [row.name for row in listed(world, once=True).rows] == ["only-ana.txt"]
    assert listed(world, "BOTH", once=True).rows == []


def test_a_part_is_no_second_copy(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("a.txt")
    ben.share("a.txt", complete=False)
    assert look(world).single_copies.contents == 1
    [row] = listed(world, once=True).rows
    assert (row.holders, row.partial, list(row.complete_at), list(row.partial_at)) == (1, 1, [0], [1])
    assert row.holder_labels == ["ana", "ben (partial)"]


def test_versions_of_a_name_are_told_apart(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("notes.txt")
    file = {"name": "notes.txt", "id": id_of("other"), "size": 3, "complete": True}
    ben.call("PUT", "/index", {"version": "1", "files": [file]})
    assert [(row.version, row.versions) for row in listed(world).rows] == [(1, 2), (2, 2)]
    assert len({row.id for row in listed(world).rows}) == 2


def test_a_late_ping_and_a_sender_that_sends_nothing_stand_out(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    world.clock.advance(16)
    ben.ping(uploads=2, rate=0)
    seen = look(world)
    assert {(peer.user, peer.late, peer.stalled) for peer in seen.peers} == {
        ("ana", True, False),
        ("ben", False, True),
    }
    assert (seen.late, seen.stalled) == (1, 1)
    ana.ping(uploads=1, rate=5e6)
    assert (look(world).late, look(world).rate) == (0, 5e6)


def test_a_peer_is_online_since_it_came_whenever_it_logged_in(world: Tracker) -> None:
    ana = world.peer("ana")
    world.clock.advance(100)
    ana.ping()
    came = world.parts.tracker.server_time()
    world.clock.advance(10)
    ana.ping()
    [peer] = look(world).peers
    assert peer.online_since == pytest.approx(came)


def test_a_copy_that_was_placed_is_told_with_its_reason_and_drawn(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ben.ping(free_bytes=1 << 40)
    assert ana.targets("film.mkv") == ["127.0.0.1:5002"]
    seen = look(world)
    [line] = seen.placements
    assert (line.subject, line.name, line.detail) == ("ana", "film.mkv", "ben")
    assert "1.0 TiB free" in line.reason
    [arrow] = seen.arrows
    assert (arrow.source, arrow.target, arrow.age) == ("127.0.0.1:5001", "127.0.0.1:5002", "fresh")


def test_what_a_peer_asked_for_and_then_has_was_fetched_from_its_holders(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("film.mkv")
    ben.share("own.txt")
    assert look(world).arrows == [], "what was there by itself was not fetched"
    assert ben.holders("film.mkv") == ["127.0.0.1:5001"]
    ben.share("film.mkv", version="2", complete=False)
    assert [line.kind for line in look(world).activity].count("fetching") == 1
    for version in ("3", "4"):
        ben.share("film.mkv", version=version)
    seen = look(world)
    [line] = [line for line in seen.activity if line.kind in ("fetched", "fetching")]
    assert (line.kind, line.subject, line.name, line.detail, line.repeats) == ("fetched", "ben", "film.mkv", "ana", 1)
    assert [(arrow.source, arrow.target) for arrow in seen.arrows] == [("127.0.0.1:5001", "127.0.0.1:5002")]
    world.clock.advance(3700)
    ana.ping()
    ben.ping()
    assert look(world).arrows == []


def test_feeds_of_those_who_are_gone_take_no_arrows_place(world: Tracker) -> None:
    ana = world.peer("ana")
    world.peer("ben", "127.0.0.1:5002")
    for number in range(6):
        gone = world.peer(f"guest{number}", f"127.0.0.1:{6000 + number}")
        for each in range(4):
            gone.targets(f"{number}.{each}.txt")
        gone.call("POST", "/logout")
    assert ana.targets("film.mkv") == ["127.0.0.1:5002"]
    assert [(arrow.source, arrow.target) for arrow in look(world).arrows] == [("127.0.0.1:5001", "127.0.0.1:5002")]


def test_failures_of_today_are_counted_by_kind_and_forgotten_tomorrow(world: Tracker) -> None:
    world.peer("ana")
    for user, url in (("ana", "127.0.0.1:5001"), ("ana", "127.0.0.1:5001")):
        world.call("POST", "/login", json={"username": user, "password": "wrong", "url": url})
    world.clock.advance(30)
    seen = look(world)
    assert (seen.error_counts["login_refused"], seen.error_counts["expired"], seen.error_counts.total()) == (2, 1, 3)
    assert [(line.kind, line.subject, line.repeats) for line in seen.errors] == [
        ("expired", "ana", 1),
        ("login_refused", "ana", 2),
    ]
    world.clock.advance(25 * 3600)
    world.peer("ben")
    assert (look(world).error_counts.total(), look(world).errors) == (0, [])


def test_an_answer_that_failed_is_told(world: Tracker) -> None:
    ana = world.peer("ana")

    def broken() -> NoReturn:
        raise RuntimeError

    world.parts.app.view_functions["peers"] = broken
    headers = {"Authorization": f"Bearer {ana.login['token']}"}
    assert world.client.get("/peers", headers=headers).status_code == 500
    [line] = look(world).errors
    assert (line.kind, line.reason) == ("failed", "/peers")


def test_a_name_that_is_no_account_is_not_shown(world: Tracker) -> None:
    world.peer("ana")
    refused = {"username": "my-password-by-mistake", "password": "ana"}
    assert world.client.post("/page/login", data=refused).status_code == 401
    [line] = look(world).errors
    assert (line.subject, line.detail) == ("", "127.0.0.1")


def test_with_hundreds_of_peers_and_files_the_first_are_shown(world: Tracker) -> None:
    peers = crowd(world, MAX_TABLED + 30)
    names = [f"{at:04}.dat" for at in range(MAX_FILE_ROWS + 50)]
    peers[-1].share(*names)
    peers[-1].ping(uploads=3, rate=9.0)
    seen, files = look(world), listed(world)
    assert (len(seen.peers), len(seen.pictured), len(seen.dots)) == (MAX_TABLED, MAX_PICTURED, MAX_PICTURED)
    assert peers[-1].address in {peer.address for peer in seen.pictured}, "the busiest are in the picture"
    assert seen.totals.peers == MAX_TABLED + 30
    assert [row.name for row in files.rows] == names[:MAX_FILE_ROWS]
    assert files.more
    assert [row.name for row in listed(world, "0249").rows] == ["0249.dat"]


def test_many_viewers_cost_no_more_than_one(world: Tracker) -> None:
    clock = world.clock
    live = RenderCache(world.parts.tracker, clock, "1", 10)
    before = live.parts("", False)
    world.peer("ana")
    assert live.parts("", False) is before, "for a second"
    clock.advance(1.1)
    assert live.parts("", False)["peers"] != before["peers"]


def test_what_takes_long_is_made_seldom() -> None:
    clock = ManualClock()
    made = []

    def slow() -> int:
        clock.advance(2)
        made.append(1)
        return len(made)

    kept: TtlCache[int] = TtlCache(clock, 1.0, slow)
    for _ in range(30):
        kept()
        clock.advance(1)
    assert len(made) == 1


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=MAX_PICTURED), st.data())
def test_the_picture_holds_all_dots_apart_and_arrows_end_at_them(files: list[int], data: st.DataObject) -> None:
    peers = [(f"10.0.0.1:{at}", "w" * 30, count) for at, count in enumerate(files)]
    dots = {dot.address: dot for dot in graph_svg.place_dots(peers, formatting.truncated)}
    for dot in dots.values():
        assert dot.radius <= dot.x <= graph_svg.SIZE - dot.radius
        assert dot.radius <= dot.y <= graph_svg.SIZE - dot.radius
    placed = list(dots.values())
    for one, other in zip(placed, placed[1:] + placed[:1], strict=True):
        assert one is other or math.dist((one.x, one.y), (other.x, other.y)) >= (one.radius + other.radius) * 0.99
    ends = st.sampled_from([url for url, _, _ in peers])
    feeds = data.draw(
        st.lists(st.builds(TransferEdge, ends, ends, st.just(1), st.just(0.5), st.just("fresh")), max_size=MAX_EDGES)
    )
    for arrow in graph_svg.draw_arrows(feeds, dots):
        tip = [float(number) for number in arrow.head.split()[0].split(",")]
        target = dots[arrow.target]
        assert math.dist(tip, (target.x, target.y)) == pytest.approx(target.radius + 3, abs=0.2)


def test_an_arrow_to_nobody_in_the_picture_is_not_drawn() -> None:
    dots: Mapping[str, Dot] = {dot.address: dot for dot in graph_svg.place_dots([("a", "a", 1)], formatting.truncated)}
    assert (
        graph_svg.draw_arrows([TransferEdge("a", "gone", 1, 1.0, "old"), TransferEdge("a", "a", 1, 1.0, "old")], dots)
        == []
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1024, "1.0 KiB"), (150 << 10, "150 KiB"), (5 << 60, "5.0 EiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (1.9, "now"), (2, "2 s ago"), (61, "1 min ago"), (7200, "2 h ago"), (9e5, "10 d ago")],
)
def test_ages_read_well(seconds: float, text: str) -> None:
    assert formatting.ago(seconds) == text


def test_counting_what_is_scarce_bears_announcements_meanwhile(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    names = [f"{at:03}" for at in range(200)]
    ana.share(*names)
    done = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        while not done.is_set():
            seen.append(world.parts.tracker.single_copies("", 10).contents)

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        for version in range(60):
            ben.share(*names[: 200 if version % 2 else 0], version=str(version))
        done.set()
        watching.result(10)
    assert set(seen) <= set(range(201))
    assert world.parts.tracker.single_copies("", 10).contents == 0
