"""Names with the same content: each is a file of its own at each receiver and downloader, and the bytes move once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pserver_pb2 as pb
from bit_rot import flip_byte
from daemon.models import Version
from daemon.protocol.frames import Block, encode
from daemon.transfer.batch_push import Offer, OfferQueue
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker
from push_client import Push, offer, push_small, small_offers
from ticket_signer import WRITE

MIB = 1 << 20
WANTED, PUBLISHED, REFUSED = 1, 2, 3
LARGE = os.urandom(3 * MIB)
PACKAGE = {
    "pkg/LICENSE": b"do what you like",
    "pkg/vendor/LICENSE": b"do what you like",
    "pkg/__init__.py": b"",
    "pkg/vendor/__init__.py": b"",
    "pkg/data.bin": LARGE,
    "pkg/vendor/data.bin": LARGE,
    "pkg/vendor/deep/data.bin": LARGE,
    "pkg/only.txt": b"only once",
}


class Network(NamedTuple):
    """Peers at a tracker of their own."""

    ana: LivePserver
    ben: LivePserver
    cia: LivePserver


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with live_tracker(tmp_path / "tracker") as tracker, contextlib.ExitStack() as peers:
        users = ("ana", "ben", "cia")
        yield Network(*(peers.enter_context(live_pserver(tmp_path / user, tracker, user)) for user in users))


@pytest.fixture
def dan(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A receiver with a quota of 8 MiB."""
    with live_pserver(tmp_path / "dan", tracker, "dan", quota=8 * MIB, ping_interval=300) as live:
        yield live


@pytest.fixture
def rot(in_memory: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A receiver whose files can change without a new time."""
    with live_pserver(in_memory, tracker, "rot", ping_interval=300) as live:
        yield live


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(peer: LivePserver, method: str, command: Any) -> tuple[list[Any], list[Any]]:
    """Run a command; return its results and its faults."""
    with peer.control() as control:
        events = list(getattr(control, method)(iter([command]), metadata=peer.cookie, timeout=60))
    results = [event.results for event in events]
    good = [item for each in results for item in (*each.uploaded, *each.downloaded, *each.removed)]
    return good, [fault for each in results for fault in each.faults]


def upload(peer: LivePserver, path: Path, copies: int) -> dict[str, list[str]]:
    """Upload; return the copies of each name."""
    uploaded, faults = run(peer, "UploadFileRequest", pb.UploadCommand(paths=[str(path)], copies=copies))
    assert faults == []
    return {file.name: sorted(file.copies) for file in uploaded}


def download(peer: LivePserver, *names: str) -> list[str]:
    downloaded, faults = run(peer, "DownloadFileRequest", pb.DownloadCommand(names=names))
    assert faults == []
    return sorted(file.name for file in downloaded)


def received(peer: LivePserver) -> float:
    """The payload bytes that a peer received as pieces, or for its downloads."""
    (metric,) = peer.pserver.metrics.bytes_received.collect()
    return metric.samples[0].value


def contents(peer: LivePserver) -> dict[str, bytes]:
    """The files in the shared folder of a peer."""
    files = [path for path in peer.shared.rglob("*") if path.is_file() and ".p2p" not in path.parts]
    return {path.relative_to(peer.shared).as_posix(): path.read_bytes() for path in files}


def small_push(peer: LivePserver, *files: tuple[int, str, bytes]) -> list[tuple[int, int, bool, str]]:
    """Offer small files and send none; return number, verdict, whether it has the name, and code."""
    verdicts = push_small(peer, small_offers(peer, *files))
    return [(each.number, each.verdict, each.named, each.code) for each in verdicts]


# ------------------------------------------------------------------------------------------------------------- uploads


def test_every_name_of_an_uploaded_folder_is_at_every_receiver(network: Network, tmp_path: Path) -> None:
    ana, ben, cia = network
    write(tmp_path, PACKAGE)
    assert upload(ana, tmp_path / "pkg", 2) == dict.fromkeys(PACKAGE, sorted([ben.address, cia.address]))
    assert contents(ben) == contents(cia) == PACKAGE
    # Three names, one transfer of the content.
    assert received(ben) == received(cia) == len(LARGE)


def test_one_copy_of_each_name_is_at_one_receiver(network: Network, tmp_path: Path) -> None:
    ana, ben, cia = network
    write(tmp_path, PACKAGE)
    copies = upload(ana, tmp_path / "pkg", 1)
    assert {len(addresses) for addresses in copies.values()} == {1}
    for peer in (ben, cia):
        assert set(contents(peer)) == {name for name, addresses in copies.items() if addresses == [peer.address]}
    assert received(ben) + received(cia) == len(LARGE)


@pytest.mark.parametrize("content", [LARGE, b"small", b""], ids=["large", "small", "empty"])
def test_a_name_that_is_added_later_is_copied_too(network: Network, tmp_path: Path, content: bytes) -> None:
    ana, ben, cia = network
    write(tmp_path, {"first.bin": content, "second.bin": content})
    everyone = sorted([ben.address, cia.address])
    assert upload(ana, tmp_path / "first.bin", 2) == {"first.bin": everyone}
    before = received(ben)
    assert upload(ana, tmp_path / "second.bin", 2) == {"second.bin": everyone}
    assert contents(ben) == contents(cia) == {"first.bin": content, "second.bin": content}
    assert received(ben) == before


def test_the_names_are_independent_files(network: Network, tmp_path: Path) -> None:
    ana, ben, _ = network
    write(tmp_path, PACKAGE)
    upload(ana, tmp_path / "pkg", 2)
    (ben.shared / "pkg/data.bin").write_bytes(b"edited")
    (ben.shared / "pkg/LICENSE").write_bytes(b"edited")
    assert (ben.shared / "pkg/vendor/data.bin").read_bytes() == LARGE
    assert (ben.shared / "pkg/vendor/LICENSE").read_bytes() == b"do what you like"


def test_the_names_outlive_the_uploader(network: Network, tmp_path: Path) -> None:
    ana, ben, cia = network
    write(tmp_path, PACKAGE)
    copies = upload(ana, tmp_path / "pkg", 1)
    ana.call(ana.pserver.account.logout())
    assert sorted(copies) == sorted(PACKAGE)
    download(cia, "pkg/")
    download(ben, "pkg/")
    assert contents(ben) == contents(cia) == PACKAGE


def test_a_removed_name_leaves_the_others(network: Network, tmp_path: Path) -> None:
    ana, _, cia = network
    write(tmp_path, PACKAGE)
    upload(ana, tmp_path / "pkg", 2)
    names = ["pkg/data.bin", "pkg/LICENSE", "pkg/__init__.py"]
    removed, faults = run(cia, "RemoveFiles", pb.RemoveCommand(names=names))
    assert len(removed) == len(names)
    assert faults == []
    assert contents(cia) == {name: content for name, content in PACKAGE.items() if name not in names}


# ----------------------------------------------------------------------------------------------------------- downloads


def test_a_download_of_a_folder_has_every_name_and_fetches_the_bytes_once(network: Network) -> None:
    ana, ben, _ = network
    write(ana.shared, PACKAGE)
    upload(ana, ana.shared / "pkg", 0)
    assert download(ben, "pkg/") == sorted(PACKAGE)
    assert contents(ben) == PACKAGE
    assert received(ben) == sum(map(len, set(PACKAGE.values())))


# ----------------------------------------------------------------------------------------------------------- receivers


def test_a_pushed_name_of_large_content_is_stored_without_bytes_and_counts(
    dan: LivePserver, stack: contextlib.ExitStack
) -> None:
    manifest = dan.share("mine.bin", LARGE)
    push = Push(dan, manifest.id, stack)
    push.send(offer("pushed/mine.bin", manifest))
    response = push.receive()
    assert (response.published, response.named) == (True, True)
    assert (dan.shared / "pushed/mine.bin").read_bytes() == LARGE
    assert (dan.shared / "pushed/mine.bin").stat().st_ino != (dan.shared / "mine.bin").stat().st_ino
    assert dan.pserver.manifest_cache.replica_usage().bytes == len(LARGE)


def test_pushed_names_of_small_content_are_stored_without_bytes_and_count(dan: LivePserver) -> None:
    dan.share("mine.txt", b"mine")
    dan.share("empty", b"")
    files = [(1, "a/mine.txt", b"mine"), (2, "b/mine.txt", b"mine"), (3, "a/empty", b""), (4, "mine.txt", b"mine")]
    assert sorted(small_push(dan, *files)) == [(number, PUBLISHED, True, "") for number in (1, 2, 3, 4)]
    assert contents(dan) == {"mine.txt": b"mine", "empty": b""} | {name: content for _, name, content in files}
    assert dan.pserver.manifest_cache.replica_usage().bytes == 2 * len(b"mine")
    assert dan.pserver.replica_quota.incoming_bytes == 0


def test_a_name_without_bytes_is_refused_as_any_other(dan: LivePserver, stack: contextlib.ExitStack) -> None:
    manifest = dan.share("mine.bin", LARGE)
    dan.share("mine.txt", b"mine")
    dan.share("taken", b"taken")
    refused = [(1, "taken", b"mine"), (2, "../x", b"mine"), (3, "taken/deep", b"mine")]
    codes = {number: code for number, verdict, _, code in small_push(dan, *refused) if verdict == REFUSED}
    assert codes == {1: "target_exists", 2: "bad_name", 3: "target_exists"}
    for name, code in (("taken", "target_exists"), ("../x", "bad_name")):
        push = Push(dan, manifest.id, stack)
        push.send(offer(name, manifest))
        assert push.error()[1] == code
    # Two names of 3 MiB fit into the quota, a third does not.
    for name in ("one.bin", "two.bin"):
        push = Push(dan, manifest.id, stack)
        push.send(offer(name, manifest))
        assert push.receive().published
    push = Push(dan, manifest.id, stack)
    push.send(offer("three.bin", manifest))
    assert push.error()[1] == "quota"
    assert not (dan.shared / "three.bin").exists()


@pytest.mark.parametrize("size", [MIB, 2 * MIB])
def test_corrupt_local_content_is_not_copied_but_requested(
    rot: LivePserver, stack: contextlib.ExitStack, size: int
) -> None:
    content = os.urandom(size)
    manifest = rot.share("mine.bin", content)
    flip_byte(rot.shared / "mine.bin", size - 1)
    if size > MIB:
        push = Push(rot, manifest.id, stack)
        push.send(offer("pushed.bin", manifest))
        while not (response := push.receive()).published:
            for piece in response.pieces:
                push.send(encode([Block(piece, 0, content[piece * MIB : (piece + 1) * MIB])]))
    else:
        verdicts = push_small(rot, small_offers(rot, (1, "pushed.bin", content)), encode([Block(1, 0, content)]))
        assert [verdict.verdict for verdict in verdicts] == [WANTED, PUBLISHED]
    assert (rot.shared / "pushed.bin").read_bytes() == content


def test_an_offer_of_another_size_than_the_content_here_is_refused(dan: LivePserver) -> None:
    manifest = dan.share("mine.bin", LARGE)
    ticket = dan.ticket(manifest.id, WRITE)[0][1]
    offers = [pb.SmallFileOffer(number=1, name="small.bin", size=5, ticket=ticket)]
    (verdict,) = push_small(dan, pb.UploadSmallFilesRequest(offers=offers).SerializeToString())
    assert (verdict.verdict, verdict.code) == (REFUSED, "bad_usage")


# ------------------------------------------------------------------------------------------------------------- senders


def test_names_of_one_content_are_offered_until_the_receiver_has_it() -> None:
    first, second = Version("a", "11" * 32, 4), Version("b", "11" * 32, 4)
    other = Version("c", "22" * 32, 4)
    queue = OfferQueue([Offer(version, "ticket") for version in (first, second, other)])
    assert [offer.version for _, offer in queue.pop(9)] == [first, other]
    assert queue.pop(9) == []
    queue.on_result(Offer(first, "ticket"), stored=True)
    assert [offer.version for _, offer in queue.pop(9)] == [second]


def test_a_refused_name_lets_the_next_one_bring_the_content() -> None:
    names = [Version(name, "11" * 32, 4) for name in "abc"]
    queue = OfferQueue([Offer(version, "ticket") for version in names])
    assert [offer.version for _, offer in queue.pop(9)] == names[:1]
    queue.on_result(Offer(names[0], "ticket"), stored=False)
    assert [offer.version for _, offer in queue.pop(9)] == names[1:2]
    queue.on_result(Offer(names[1], "ticket"), stored=True)
    assert [offer.version for _, offer in queue.pop(9)] == names[2:]
