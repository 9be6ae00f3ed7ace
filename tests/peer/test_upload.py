"""The upload command: which files its paths mean, and which arguments its results name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import pserver_pb2 as pb
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker


@pytest.fixture
def una(tmp_path: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "una", tracker, "una") as live:
        yield live


def upload(una: LivePserver, *paths: Path) -> tuple[dict[str, list[int]], list[tuple[str, str, list[int]]]]:
    """The arguments of each uploaded name, and code, name and arguments of each fault."""
    command = pb.UploadCommand(paths=map(str, paths), copies=0)
    with una.control() as control:
        events = control.UploadFileRequest(iter([command]), metadata=una.cookie, timeout=30)
        results = [event.results for event in events]
    return (
        {file.name: list(file.arguments) for each in results for file in each.uploaded},
        [(fault.code, fault.name, list(fault.arguments)) for each in results for fault in each.faults],
    )


def test_each_result_names_the_arguments_that_mean_it(una: LivePserver, tmp_path: Path) -> None:
    trip = tmp_path / "trip"
    (trip / ".git").mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (trip / name).write_text(name)
    missing = tmp_path / "none.txt"
    uploaded, faults = upload(una, missing, trip, trip / "a.txt", missing, trip)
    assert uploaded == {"trip/a.txt": [1, 4], "trip/b.txt": [1, 4], "a.txt": [2]}
    assert faults == [("no_such_file", str(missing), [0, 3]), ("bad_name", "trip/.git", [1, 4])]


def test_a_file_of_the_shared_folder_is_shared_in_place(una: LivePserver) -> None:
    (una.shared / "deep").mkdir()
    (una.shared / "deep" / "in.txt").write_text("in")
    assert upload(una, una.shared / "deep" / "in.txt", una.shared / "deep") == ({"deep/in.txt": [0, 1]}, [])


def test_two_files_of_one_name_are_a_fault_of_the_second(una: LivePserver, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(folder)
    uploaded, faults = upload(una, tmp_path / "one" / "same.txt", tmp_path / "two" / "same.txt")
    assert (uploaded, faults) == ({"same.txt": [0]}, [("bad_usage", "same.txt", [1])])


def test_different_content_under_a_shared_name_is_a_fault_and_changes_nothing(una: LivePserver, tmp_path: Path) -> None:
    una.share("same.txt", b"mine")
    path = tmp_path / "same.txt"
    path.write_text("other")
    assert upload(una, path) == ({}, [("target_exists", "same.txt", [0])])
    assert (una.shared / "same.txt").read_bytes() == b"mine"
