"""The content of the dashboard, read from a real tracker."""

import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.activity_log import MAX_QUERIED, ActivityLog
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


def snapshot_of(world: Tracker) -> Snapshot:
    tracker = world.parts.tracker
    return take_snapshot(tracker, tracker.single_copies("", 0), "1", 10)


def files_of(world: Tracker, match: str = "", once: bool = False) -> FileList:
    return list_files(world.parts.tracker, snapshot_of(world), match, once)


def many_peers(world: Tracker, number: int) -> list[Peer]:
    return [world.peer(f"u{at % 20:02}", f"127.0.0.1:{6000 + at}") for at in range(number)]


def test_single_copy_files_are_counted_and_files_of(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("both.txt", "only-ana.txt")
    ben.share("both.txt")
    assert snapshot_of(world).single_copies.contents == 1
    assert [row.name for row in files_of(world, once=True).rows] == ["only-ana.txt"]
    assert files_of(world, "BOTH", once=True).rows == []


def test_a_partial_copy_is_no_second_copy(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("a.txt")
    ben.share("a.txt", complete=False)
    assert snapshot_of(world).single_copies.contents == 1
    [row] = files_of(world, once=True).rows
    assert (row.holders, row.partial, list(row.complete_at), list(row.partial_at)) == (1, 1, [0], [1])
    assert row.holder_labels == ["ana", "ben (partial)"]


def test_versions_of_a_name_are_distinguished(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("notes.txt")
    file = {"name": "notes.txt", "id": id_of("other"), "size": 3, "complete": True}
    ben.call("PUT", "/index", {"version": "1", "files": [file]})
    assert [(row.version, row.versions) for row in files_of(world).rows] == [(1, 2), (2, 2)]
    assert len({row.id for row in files_of(world).rows}) == 2


def test_late_and_stalled_peers_are_marked(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    world.clock.advance(16)
    ben.ping(uploads=2, rate=0)
    shown = snapshot_of(world)
    assert {(peer.user, peer.late, peer.stalled) for peer in shown.peers} == {
        ("ana", True, False),
        ("ben", False, True),
    }
    assert (shown.late, shown.stalled) == (1, 1)
    ana.ping(uploads=1, rate=5e6)
    assert (snapshot_of(world).late, snapshot_of(world).rate) == (0, 5e6)


def test_online_time_counts_from_the_first_ping(world: Tracker) -> None:
    ana = world.peer("ana")
    world.clock.advance(100)
    ana.ping()
    came = world.parts.tracker.server_time()
    world.clock.advance(10)
    ana.ping()
    [peer] = snapshot_of(world).peers
    assert peer.online_since == pytest.approx(came)


def test_a_placement_is_shown_with_its_reason_and_an_arrow(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ben.ping(free_bytes=1 << 40)
    assert ana.targets("film.mkv") == ["127.0.0.1:5002"]
    shown = snapshot_of(world)
    [line] = shown.placements
    assert (line.subject, line.name, line.detail) == ("ana", "film.mkv", "ben")
    assert "1.0 TiB free" in line.reason
    [arrow] = shown.arrows
    assert (arrow.source, arrow.target, arrow.age) == ("127.0.0.1:5001", "127.0.0.1:5002", "fresh")


def test_a_queried_file_that_a_peer_then_has_counts_as_a_download(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share("film.mkv")
    ben.share("own.txt")
    assert snapshot_of(world).arrows == [], "a file that a peer had before is no download"
    assert ben.holders("film.mkv") == ["127.0.0.1:5001"]
    ben.share("film.mkv", version="2", complete=False)
    assert [line.kind for line in snapshot_of(world).activity].count("fetching") == 1
    for version in ("3", "4"):
        ben.share("film.mkv", version=version)
    shown = snapshot_of(world)
    [line] = [line for line in shown.activity if line.kind in ("fetched", "fetching")]
    assert (line.kind, line.subject, line.name, line.detail, line.repeats) == ("fetched", "ben", "film.mkv", "ana", 1)
    assert [(arrow.source, arrow.target) for arrow in shown.arrows] == [("127.0.0.1:5001", "127.0.0.1:5002")]
    world.clock.advance(3700)
    ana.ping()
    ben.ping()
    assert snapshot_of(world).arrows == []


def test_the_recorded_queries_are_bounded_and_the_latest_stay() -> None:
    log = ActivityLog(ManualClock())
    for number in range(100):
        log.note_queried(f"peer{number}", {bytes([number, at % 256, at // 256]) for at in range(MAX_QUERIED // 10)})
    recorded = [len(log.queried_by(f"peer{number}")) for number in range(100)]
    assert recorded == [0] * 90 + [MAX_QUERIED // 10] * 10
    log.note_queried("peer95", {b"again"})
    log.note_queried("new", {b"x"})
    assert b"again" in log.queried_by("peer95")
    assert not log.queried_by("peer90")
    for start in range(0, 3 * MAX_QUERIED, 1000):
        log.note_queried("one", {at.to_bytes(4, "big") for at in range(start, start + 1000)})
        assert (start + 999).to_bytes(4, "big") in log.queried_by("one")
        assert len(log.queried_by("one")) <= MAX_QUERIED


def test_edges_of_offline_peers_take_no_place(world: Tracker) -> None:
    ana = world.peer("ana")
    world.peer("ben", "127.0.0.1:5002")
    for number in range(6):
        gone = world.peer(f"guest{number}", f"127.0.0.1:{6000 + number}")
        for each in range(4):
            gone.targets(f"{number}.{each}.txt")
        gone.call("POST", "/logout")
    assert ana.targets("film.mkv") == ["127.0.0.1:5002"]
    assert [(arrow.source, arrow.target) for arrow in snapshot_of(world).arrows] == [
        ("127.0.0.1:5001", "127.0.0.1:5002")
    ]


def test_errors_are_counted_by_kind_for_24_hours(world: Tracker) -> None:
    world.peer("ana")
    for user, url in (("ana", "127.0.0.1:5001"), ("ana", "127.0.0.1:5001")):
        world.call("POST", "/login", json={"username": user, "password": "wrong", "url": url})
    world.clock.advance(30)
    shown = snapshot_of(world)
    assert (shown.error_counts["login_refused"], shown.error_counts["expired"], shown.error_counts.total()) == (2, 1, 3)
    assert [(line.kind, line.subject, line.repeats) for line in shown.errors] == [
        ("expired", "ana", 1),
        ("login_refused", "ana", 2),
    ]
    world.clock.advance(25 * 3600)
    world.peer("ben")
    assert (snapshot_of(world).error_counts.total(), snapshot_of(world).errors) == (0, [])


def test_an_internal_error_is_shown_with_its_route(world: Tracker) -> None:
    ana = world.peer("ana")

    def broken() -> NoReturn:
        raise RuntimeError

    world.parts.app.view_functions["peers"] = broken
    headers = {"Authorization": f"Bearer {ana.login['token']}"}
    assert world.client.get("/peers", headers=headers).status_code == 500
    [line] = snapshot_of(world).errors
    assert (line.kind, line.reason) == ("failed", "/peers")


def test_an_unknown_user_name_of_a_failed_login_is_not_shown(world: Tracker) -> None:
    world.peer("ana")
    refused = {"username": "my-password-by-mistake", "password": "ana"}
    assert world.client.post("/page/login", data=refused).status_code == 401
    [line] = snapshot_of(world).errors
    assert (line.subject, line.detail) == ("", "127.0.0.1")


def test_an_interactive_sign_up_is_no_error(world: Tracker) -> None:
    body = {"username": "ana", "password": "x", "url": "127.0.0.1:5001"}
    assert world.call("POST", "/login", json={**body, "register": False}).status_code == 404
    assert world.call("POST", "/login", json=body).status_code == 201
    shown = snapshot_of(world)
    assert (shown.error_counts.total(), shown.errors) == (0, [])
    assert {line.kind for line in shown.activity} == {"login", "registered"}


def test_with_hundreds_of_peers_and_files_the_first_are_shown(world: Tracker) -> None:
    peers = many_peers(world, MAX_TABLED + 30)
    names = [f"{at:04}.dat" for at in range(MAX_FILE_ROWS + 50)]
    peers[-1].share(*names)
    peers[-1].ping(uploads=3, rate=9.0)
    shown, files = snapshot_of(world), files_of(world)
    assert (len(shown.peers), len(shown.pictured), len(shown.dots)) == (MAX_TABLED, MAX_PICTURED, MAX_PICTURED)
    assert peers[-1].address in {peer.address for peer in shown.pictured}, "the busiest peers are in the graph"
    assert shown.totals.peers == MAX_TABLED + 30
    assert [row.name for row in files.rows] == names[:MAX_FILE_ROWS]
    assert files.more
    assert [row.name for row in files_of(world, "0249").rows] == ["0249.dat"]


def test_many_viewers_cost_no_more_than_one(world: Tracker) -> None:
    clock = world.clock
    cache = RenderCache(world.parts.tracker, clock, "1", 10)
    before = cache.parts("", False)
    world.peer("ana")
    assert cache.parts("", False) is before, "cached for a second"
    clock.advance(1.1)
    assert cache.parts("", False)["peers"] != before["peers"]


def test_a_slow_value_is_computed_rarely() -> None:
    clock = ManualClock()
    computed = []

    def slow() -> int:
        clock.advance(2)
        computed.append(1)
        return len(computed)

    cached: TtlCache[int] = TtlCache(clock, 1.0, slow)
    for _ in range(30):
        cached()
        clock.advance(1)
    assert len(computed) == 1


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=MAX_PICTURED), st.data())
def test_dots_do_not_overlap_and_arrows_end_at_them(files: list[int], data: st.DataObject) -> None:
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


def test_an_arrow_to_a_peer_outside_the_graph_is_not_drawn() -> None:
    dots: Mapping[str, Dot] = {dot.address: dot for dot in graph_svg.place_dots([("a", "a", 1)], formatting.truncated)}
    assert (
        graph_svg.draw_arrows([TransferEdge("a", "gone", 1, 1.0, "old"), TransferEdge("a", "a", 1, 1.0, "old")], dots)
        == []
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1024, "1.0 KiB"), (150 << 10, "150 KiB"), (5 << 60, "5.0 EiB")],
)
def test_sizes_have_about_three_digits(count: int, text: str) -> None:
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (1.9, "now"), (2, "2 s ago"), (61, "1 min ago"), (7200, "2 h ago"), (9e5, "10 d ago")],
)
def test_ages_are_in_their_largest_unit(seconds: float, text: str) -> None:
    assert formatting.ago(seconds) == text


def test_counting_single_copies_tolerates_concurrent_announcements(world: Tracker) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    names = [f"{at:03}" for at in range(200)]
    ana.share(*names)
    done = threading.Event()
    counts: list[int] = []

    def watch() -> None:
        while not done.is_set():
            counts.append(world.parts.tracker.single_copies("", 10).contents)

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        for version in range(60):
            ben.share(*names[: 200 if version % 2 else 0], version=str(version))
        done.set()
        watching.result(10)
    assert set(counts) <= set(range(201))
    assert world.parts.tracker.single_copies("", 10).contents == 0
