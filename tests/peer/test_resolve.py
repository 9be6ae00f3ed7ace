"""What the arguments of a download mean, asked of a real tracker."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pserver_pb2 as pb
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

FILES = {"a.txt": b"a", "b.txt": b"b", "tree/one.txt": b"1", "tree/deep/two.txt": b"2", "odd [1].txt": b"odd"}


@pytest.fixture(scope="module")
def rita(folder: Path, tracker: LiveTracker, ana: LivePserver) -> Iterator[LivePserver]:
    """A peer that wants what ana has; both have a version of their own of one name."""
    with live_pserver(folder / "rita", tracker, "rita") as live, live_pserver(folder / "sam", tracker, "sam") as sam:
        ids = {name: ana.share(name, content).id for name, content in FILES.items()}
        ana.share("both.txt", b"ana's")
        sam.share("both.txt", b"sam's")
        for peer in (ana, sam):
            peer.call(peer.pserver.announcer.sync())
        assert len(ids) == len(FILES)
        yield live


def download(rita: LivePserver, *names: str, output: str = "") -> tuple[list[str], list[tuple[str, str]]]:
    """Names that arrived, and (code, what it is about) of what did not."""
    results = ordered(rita, *names, output=output)
    return (
        sorted(got.name for result in results for got in result.downloaded),
        [(fault.code, fault.name) for result in results for fault in result.faults],
    )


def ordered(rita: LivePserver, *names: str, output: str = "") -> list[pb.Results]:
    """All that a download order tells of its files."""
    with rita.control() as control:
        order = pb.DownloadCommand(names=names, output=output)
        return [event.results for event in control.DownloadFileRequest(iter([order]), metadata=rita.cookie, timeout=30)]


def test_names_ids_folders_and_patterns(rita: LivePserver, ana: LivePserver) -> None:
    assert download(rita, "a.txt") == (["a.txt"], [])
    id_ = ana.pserver.library.by_name("b.txt")
    assert id_ is not None
    assert download(rita, id_.id) == (["b.txt"], [])
    assert download(rita, "tree/") == (["tree/deep/two.txt", "tree/one.txt"], [])
    assert download(rita, "od?*") == (["odd [1].txt"], [])
    # One that several arguments mean comes once.
    assert download(rita, "a.txt", "a*", "a.txt") == (["a.txt"], [])


def test_what_means_nothing_is_told_and_the_others_come(rita: LivePserver) -> None:
    got, faults = download(rita, "no such", "a.txt", "../x", "f" * 64, "none/", "zz*")
    assert got == ["a.txt"]
    assert faults == [
        ("no_such_file", "no such"),
        ("bad_name", "../x"),
        ("no_such_file", "f" * 64),
        ("no_such_file", "none/"),
        ("no_such_file", "zz*"),
    ]


def test_a_folder_that_is_named_like_a_file_is_told_as_that(rita: LivePserver) -> None:
    names = ["tree/deep", *(f"none{number}" for number in range(8)), "tree", "tree/one.txt/", "no", "tree/dee", "od"]
    told = {fault.name: fault for result in ordered(rita, *names) for fault in result.faults}
    assert {fault.code for fault in told.values()} == {"no_such_file"}
    folders = {name: fault.message for name, fault in told.items() if "folder" in fault.message}
    assert folders == {name: f"it is a folder: name it with a / at the end: {name}/" for name in ("tree/deep", "tree")}


@pytest.mark.parametrize("length", [12, 63, 65])
def test_a_part_of_an_id_is_told_to_be_that(rita: LivePserver, ana: LivePserver, length: int) -> None:
    held = ana.pserver.library.by_name("b.txt")
    assert held is not None
    (fault,) = [fault for result in ordered(rita, (held.id * 2)[:length]) for fault in result.faults]
    assert (fault.code, "an id has 64 digits: `files --json`" in fault.message) == ("no_such_file", True)


def test_the_tracker_is_asked_about_ten_folders_of_an_order_at_most(rita: LivePserver) -> None:
    names = [*(f"none{number}" for number in range(10)), "tree"]
    [fault] = [fault for result in ordered(rita, *names) for fault in result.faults if fault.name == "tree"]
    assert "folder" not in fault.message


def test_a_name_with_several_versions_must_be_chosen_by_id(rita: LivePserver) -> None:
    assert download(rita, "both.txt") == ([], [("ambiguous_name", "both.txt")])
    got, faults = download(rita, "bo*")
    assert (got, [code for code, _ in faults]) == ([], ["ambiguous_name"])


def test_another_name_is_for_one_file(rita: LivePserver) -> None:
    assert download(rita, "a.txt", output="renamed.txt") == (["renamed.txt"], [])
    assert (rita.shared / "renamed.txt").read_bytes() == b"a"
    assert download(rita, "tree/", output="many.txt") == ([], [("bad_usage", "")])
    (told,) = [fault.message for result in ordered(rita, "tree/", output="many.txt") for fault in result.faults]
    assert "many.txt/" in told
    assert download(rita, "a.txt", output="../x")[1] != []
    assert not os.path.exists(rita.home / "x")
