"""What the arguments of a download mean, with a real tracker."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

FILES = {"a.txt": b"a", "b.txt": b"b", "tree/one.txt": b"1", "tree/deep/two.txt": b"2", "odd [1].txt": b"odd"}


@pytest.fixture(scope="module")
def rita(folder: Path, tracker: LiveTracker, ana: LivePserver) -> Iterator[LivePserver]:
    """A peer that downloads from ana. Ana and sam have different versions of one name."""
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
    results = results_of(rita, *names, output=output)
    return (
        sorted(got.name for result in results for got in result.downloaded),
        [(fault.code, fault.name) for result in results for fault in result.faults],
    )


def results_of(rita: LivePserver, *names: str, output: str = "") -> list[pb.Results]:
    """The results of a download command."""
    with rita.control() as control:
        command = pb.DownloadCommand(names=names, output=output)
        return [
            event.results for event in control.DownloadFileRequest(iter([command]), metadata=rita.cookie, timeout=30)
        ]


def test_names_ids_folders_and_patterns_are_resolved(rita: LivePserver, ana: LivePserver) -> None:
    assert download(rita, "a.txt") == (["a.txt"], [])
    id_ = ana.pserver.library.by_name("b.txt")
    assert id_ is not None
    assert download(rita, id_.id) == (["b.txt"], [])
    assert download(rita, "tree/") == (["tree/deep/two.txt", "tree/one.txt"], [])
    assert download(rita, "od?*") == (["odd [1].txt"], [])
    # A file that several arguments mean is downloaded once.
    assert download(rita, "a.txt", "a*", "a.txt") == (["a.txt"], [])


def test_an_argument_without_a_file_is_a_fault_and_the_others_are_downloaded(rita: LivePserver) -> None:
    got, faults = download(rita, "no such", "a.txt", "../x", "f" * 64, "none/", "zz*")
    assert got == ["a.txt"]
    assert faults == [
        ("no_such_file", "no such"),
        ("bad_name", "../x"),
        ("no_such_file", "f" * 64),
        ("no_such_file", "none/"),
        ("no_such_file", "zz*"),
    ]


def test_a_folder_named_without_its_slash_is_recognised(rita: LivePserver) -> None:
    names = ["tree/deep", *(f"none{number}" for number in range(8)), "tree", "tree/one.txt/", "no", "tree/dee", "od"]
    faults = {fault.name: fault for result in results_of(rita, *names) for fault in result.faults}
    assert {fault.code for fault in faults.values()} == {"no_such_file"}
    folders = {name: fault.message for name, fault in faults.items() if "folder" in fault.message}
    assert folders == {name: f'"{name}" is a folder; add a slash: {name}/' for name in ("tree/deep", "tree")}


@pytest.mark.parametrize("length", [12, 63, 65])
def test_part_of_an_id_is_recognised(rita: LivePserver, ana: LivePserver, length: int) -> None:
    held = ana.pserver.library.by_name("b.txt")
    assert held is not None
    part = (held.id * 2)[:length]
    (fault,) = [fault for result in results_of(rita, part) for fault in result.faults]
    assert (fault.code, fault.hint) == ("no_such_file", pb.HINT_SHOW_FULL_IDS)
    # The length of an id is in the hint only: pclient shows both in one line.
    assert fault.message == f'no online peer has "{part}"'


def test_one_command_queries_at_most_ten_folders(rita: LivePserver) -> None:
    names = [*(f"none{number}" for number in range(10)), "tree"]
    [fault] = [fault for result in results_of(rita, *names) for fault in result.faults if fault.name == "tree"]
    assert "folder" not in fault.message


def test_a_name_with_several_versions_is_ambiguous(rita: LivePserver) -> None:
    assert download(rita, "both.txt") == ([], [("ambiguous_name", "both.txt")])
    got, faults = download(rita, "bo*")
    assert (got, [code for code, _ in faults]) == ([], ["ambiguous_name"])


def test_a_new_name_fits_one_file_only(rita: LivePserver) -> None:
    assert download(rita, "a.txt", output="renamed.txt") == (["renamed.txt"], [])
    assert (rita.shared / "renamed.txt").read_bytes() == b"a"
    assert download(rita, "tree/", output="many.txt") == ([], [("bad_usage", "")])
    (message,) = [fault.message for result in results_of(rita, "tree/", output="many.txt") for fault in result.faults]
    assert "many.txt/" in message
    assert download(rita, "a.txt", output="../x")[1] != []
    assert not os.path.exists(rita.home / "x")


def test_each_result_names_the_arguments_that_mean_it(rita: LivePserver) -> None:
    names = ["no such", "a.txt", "a*", "tree/", "tree/one.txt", "a.txt", "no such", "bo*"]
    results = results_of(rita, *names)
    assert {file.name: list(file.arguments) for each in results for file in each.downloaded} == {
        "a.txt": [1, 2, 5],
        "tree/one.txt": [3, 4],
        "tree/deep/two.txt": [3],
    }
    assert {fault.name: list(fault.arguments) for each in results for fault in each.faults} == {
        "no such": [0, 6],
        "both.txt": [7],
    }


def test_a_name_that_exists_with_other_content_is_a_fault_of_its_argument(rita: LivePserver) -> None:
    rita.share("here.txt", b"mine")
    [fault] = [fault for each in results_of(rita, "a.txt", output="here.txt") for fault in each.faults]
    assert (fault.code, fault.hint, list(fault.arguments)) == ("target_exists", pb.HINT_OTHER_NAME, [0])
    assert (rita.shared / "here.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("sizes", [[1, 2], [3 << 20]])
def test_the_tracker_is_queried_once_for_the_holders_of_a_download(
    rita: LivePserver, ana: LivePserver, tracker: LiveTracker, sizes: list[int]
) -> None:
    names = [f"once-{size}.bin" for size in sizes]
    for name, size in zip(names, sizes, strict=True):
        ana.share(name, os.urandom(size))
    ana.call(ana.pserver.announcer.sync())
    views = tracker.parts.app.view_functions
    answer, queries = views["query_many"], []

    def counting(**arguments: Any) -> Any:
        queries.append(time.monotonic())
        return answer(**arguments)

    views["query_many"] = counting
    try:
        assert download(rita, *names) == (names, [])
    finally:
        views["query_many"] = answer
    # A slow download looks for more holders after a while.
    assert len([query for query in queries if query - queries[0] < 0.25]) == 1
