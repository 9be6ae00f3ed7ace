"""The time of modification and the executable bit travel with the name: a real tracker, real pservers, real files."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pserver_pb2 as pb
from daemon.models import Attributes
from daemon.protocol.frames import Block, encode
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker
from push_client import Push, push_small, small_offers
from swarm_files import manifest_of

MIB = 1 << 20
OLD = 981_173_106.5
CONTENTS = {"large": os.urandom(2 * MIB + 5), "small": b"#!/bin/sh\n", "empty": b""}


@pytest.fixture(scope="module")
def ben(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(folder / "ben", tracker, "ben") as live:
        yield live


def share(peer: LivePserver, name: str, content: bytes, modified: float, mode: int = 0o644) -> str:
    """Share a file with these attributes; return its id when it is announced."""
    path = peer.shared / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (modified, modified))
    (file,) = peer.pserver.scanner.index_files([name])
    assert not isinstance(file, Exception)
    peer.call(peer.pserver.announcer.sync())
    return file.id


def download(peer: LivePserver, *names: str, output: str = "", newest: bool = False) -> pb.Results:
    """Run a download command; return all its results."""
    results = pb.Results()
    with peer.control() as control:
        command = pb.DownloadCommand(names=names, output=output, newest=newest)
        for event in control.DownloadFileRequest(iter([command]), metadata=peer.cookie, timeout=30):
            results.MergeFrom(event.results)
    return results


def on_disk(path: Path) -> tuple[float, int]:
    status = path.stat()
    return status.st_mtime, status.st_mode & 0o7777


def announced(peer: LivePserver, name: str) -> list[Attributes]:
    """Return the attributes of each version of a name at the tracker."""
    return [found.version.attributes for found in peer.call(peer.pserver.tracker.query(names=[name]))]


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("argument", ["name", "id", "folder", "pattern"])
def test_a_download_has_the_attributes_of_the_name(
    ana: LivePserver, ben: LivePserver, kind: str, argument: str
) -> None:
    name = f"{kind} by {argument}/run"
    # An id has one name only, so that it means this one.
    content = CONTENTS[kind] and CONTENTS[kind] + name.encode()
    id_ = share(ana, name, content, OLD, 0o700)
    means = {"name": name, "id": id_, "folder": f"{kind} by {argument}/", "pattern": f"{kind} by {argument}*"}[argument]
    results = download(ben, means)
    assert not results.faults
    if (kind, argument) != ("empty", "id"):
        assert on_disk(ben.shared / name) == (OLD, 0o755)
        # What ben announces does not dispute it.
        assert announced(ana, name) == [Attributes(OLD, executable=True)]


def test_names_of_one_content_have_attributes_of_their_own(ana: LivePserver, ben: LivePserver) -> None:
    for size in (10, 2 * MIB):
        content = os.urandom(size)
        share(ana, f"two{size}/plain", content, OLD)
        share(ana, f"two{size}/run", content, OLD + 1, 0o755)
        assert not download(ben, f"two{size}/").faults
        assert on_disk(ben.shared / f"two{size}/plain") == (OLD, 0o644)
        assert on_disk(ben.shared / f"two{size}/run") == (OLD + 1, 0o755)


def test_content_that_is_here_keeps_its_attributes(ana: LivePserver, ben: LivePserver) -> None:
    share(ana, "here", b"here", OLD, 0o755)
    share(ben, "here", b"here", OLD + 5, 0o600)
    (result,) = download(ben, "here").downloaded
    assert result.already_present
    assert on_disk(ben.shared / "here") == (OLD + 5, 0o600)


@pytest.mark.parametrize("kind", CONTENTS)
def test_an_output_has_the_attributes_of_the_name(
    ana: LivePserver, ben: LivePserver, tmp_path: Path, kind: str
) -> None:
    share(ana, f"out {kind}", CONTENTS[kind] and CONTENTS[kind] + b"out", OLD, 0o755)
    assert not download(ben, f"out {kind}", output=str(tmp_path / "copy")).faults
    assert on_disk(tmp_path / "copy") == (OLD, 0o755)
    assert not download(ben, f"out {kind}", output=f"renamed {kind}").faults
    assert on_disk(ben.shared / f"renamed {kind}") == (OLD, 0o755)


def test_a_time_in_the_trackers_future_is_unknown(ana: LivePserver, ben: LivePserver, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    now = (tmp_path / "now").stat().st_mtime
    share(ana, "future", b"future", now + 3600)
    assert announced(ana, "future") == [Attributes()]
    assert not download(ben, "future").faults
    assert now - 1 <= on_disk(ben.shared / "future")[0] < now + 1800


def test_chmod_and_touch_are_announced_with_the_same_id(ana: LivePserver) -> None:
    id_ = share(ana, "mine", b"mine", OLD)
    (ana.shared / "mine").chmod(0o755)
    eventually(lambda: announced(ana, "mine") == [Attributes(OLD, executable=True)])
    os.utime(ana.shared / "mine", (OLD + 9, OLD + 9))
    eventually(lambda: announced(ana, "mine") == [Attributes(OLD + 9, executable=True)])
    file = ana.pserver.library.by_name("mine")
    assert file is not None and file.id == id_


# ------------------------------------------------------------------------------------------------------------- pushes


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_pushed_file_has_the_attributes_of_the_name(
    ana: LivePserver, ben: LivePserver, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"pushed {kind}"
    path.write_bytes(CONTENTS[kind] + os.urandom(8) if kind != "empty" else b"")
    path.chmod(0o500)
    os.utime(path, (OLD, OLD))
    with ana.control() as control:
        # One for each other peer that may be online.
        command = pb.UploadCommand(paths=[str(path)], copies=2)
        events = list(control.UploadFileRequest(iter([command]), metadata=ana.cookie, timeout=30))
    assert not [fault for event in events for fault in event.results.faults]
    # The copy in the own shared folder keeps the permissions; only the executable bit travels.
    assert on_disk(ana.shared / path.name) == (OLD, 0o500)
    if kind != "empty":
        assert on_disk(ben.shared / path.name) == (OLD, 0o755)
        assert announced(ana, path.name) == [Attributes(OLD, executable=True)]


@pytest.mark.parametrize("size", [20, MIB + 20])
def test_pushed_names_of_one_content_have_attributes_of_their_own(
    ana: LivePserver, ben: LivePserver, tmp_path: Path, size: int
) -> None:
    """The receiver makes the second one of the first."""
    folder = tmp_path / f"pair{size}"
    folder.mkdir()
    for number, name in enumerate(("a", "b")):
        (folder / name).write_bytes(bytes([size % 251]) * size)
        (folder / name).chmod(0o755 if number else 0o644)
        os.utime(folder / name, (OLD + number, OLD + number))
    with ana.control() as control:
        command = pb.UploadCommand(paths=[str(folder)], copies=2)
        events = list(control.UploadFileRequest(iter([command]), metadata=ana.cookie, timeout=30))
    assert not [fault for event in events for fault in event.results.faults]
    assert on_disk(ben.shared / folder.name / "a") == (OLD, 0o644)
    assert on_disk(ben.shared / folder.name / "b") == (OLD + 1, 0o755)


@pytest.mark.parametrize("modified", [-1.0, float("nan"), float("inf"), 1e300, 8e9])
def test_an_impossible_time_in_an_offer_is_unknown(
    ben: LivePserver, stack: ExitStack, tmp_path: Path, modified: float
) -> None:
    (tmp_path / "now").touch()
    now = (tmp_path / "now").stat().st_mtime
    content = os.urandom(20)
    name = f"offered small {modified}"
    offers = pb.UploadSmallFilesRequest.FromString(small_offers(ben, (1, name, content)))
    offers.offers[0].modified = modified
    blocks = encode([Block(1, 0, content)])
    push_small(ben, offers.SerializeToString(), blocks)

    large = os.urandom(MIB + 1)
    manifest = manifest_of(large)
    offer = pb.Offer(name=f"offered large {modified}", modified=modified, executable=True)
    offer.manifest.CopyFrom(
        pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)
    )
    push = Push(ben, manifest.id, stack)
    push.send(pb.PushRequest(offer=offer).SerializeToString())
    while not (response := push.receive()).published:
        for piece in response.pieces:
            push.send(encode([Block(piece, 0, large[piece * MIB : (piece + 1) * MIB])]))
    for kind, mode in (("small", 0o644), ("large", 0o755)):
        mtime, found = on_disk(ben.shared / f"offered {kind} {modified}")
        assert now - 1 <= mtime < now + 1800 and found == mode


# ------------------------------------------------------------------------------------------------------------- newest


@pytest.fixture(scope="module")
def versions(folder: Path, tracker: LiveTracker, ana: LivePserver, ben: LivePserver) -> Iterator[LivePserver]:
    """A peer that has none of the names of which ana and ben have different versions."""
    share(ana, "docs/letter", b"older", OLD)
    share(ben, "docs/letter", b"newer", OLD + 1)
    share(ana, "docs/equal", b"one", OLD)
    share(ben, "docs/equal", b"two", OLD)
    share(ana, "docs/unknown", b"three", -5.0)
    share(ben, "docs/unknown", b"four", 8e9)
    share(ana, "docs/half", b"known", OLD)
    share(ben, "docs/half", b"in the future", 8e9)
    with live_pserver(folder / "rita", tracker, "rita") as live:
        yield live


@pytest.mark.parametrize("argument", ["docs/letter", "docs/", "docs/*", "*/let?er"])
def test_newest_takes_the_version_that_was_modified_last(
    folder: Path, tracker: LiveTracker, versions: LivePserver, argument: str
) -> None:
    home = folder / f"newest {argument.count('*')} {len(argument)}"
    with live_pserver(home, tracker, f"user{len(argument)}{argument.count('*')}") as reader:
        assert [fault.name for fault in download(reader, "docs/letter").faults] == ["docs/letter"]
        results = download(reader, argument, newest=True)
        assert (reader.shared / "docs/letter").read_bytes() == b"newer"
        assert on_disk(reader.shared / "docs/letter")[0] == OLD + 1
        if argument in ("docs/", "docs/*"):
            assert (reader.shared / "docs/half").read_bytes() == b"known"
            assert {(fault.code, fault.name) for fault in results.faults} == {
                ("ambiguous_name", "docs/equal"),
                ("ambiguous_name", "docs/unknown"),
            }
            assert all(len(fault.ids) == 2 for fault in results.faults)


def test_newest_is_the_own_version_if_that_was_modified_last(ana: LivePserver, ben: LivePserver) -> None:
    share(ana, "draft", b"theirs", OLD)
    share(ben, "draft", b"mine", OLD + 1)
    (result,) = download(ben, "draft", newest=True).downloaded
    assert result.already_present
    # The other one is newer than what is here, which is never replaced.
    (fault,) = download(ana, "draft", newest=True).faults
    assert fault.code == "target_exists"


def test_files_lists_the_attributes_of_each_version(versions: LivePserver) -> None:
    with versions.control() as control:
        pages = control.ListFiles(pb.ListFilesRequest(match="docs/*"), metadata=versions.cookie, timeout=20)
        found = [
            (file.name, file.modified if file.HasField("modified") else None) for page in pages for file in page.files
        ]
    assert sorted(each for each in found if each[0] == "docs/letter") == [
        ("docs/letter", OLD),
        ("docs/letter", OLD + 1),
    ]
    assert [each for each in found if each[0] == "docs/unknown"] == [("docs/unknown", None)] * 2
