"""Claims about the messages of Control: names that are not UTF-8, and commands larger than a message."""

import itertools
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from common.control_messages import (
    Downloaded,
    Event,
    Fault,
    Hint,
    Notice,
    Phase,
    Progress,
    Removed,
    SourceView,
    Uploaded,
    events_to_pb,
    hint_of,
)
from common.status_messages import ListedFile, ListedPeer, Load, NotShared
from daemon.errors import StorageFault
from daemon.peers.client import MAX_MESSAGE_BYTES
from live_pserver import LivePserver, code_of

ODD = os.fsdecode(b"/caf\xe9.txt")
SHOWN = "/caf\\udce9.txt"


def test_bytes_of_a_name_that_are_not_utf8_are_escaped() -> None:
    events: list[Event] = [
        Downloaded(ODD, "", 1, ODD, 0.0, (), 0, already_present=False),
        Uploaded(ODD, "", 1, ()),
        Fault.of(StorageFault(f"no room while reading {ODD}", name=ODD)),
    ]
    (event,) = events_to_pb(events)
    assert (event.results.downloaded[0].name, event.results.downloaded[0].path) == (SHOWN, SHOWN)
    assert event.results.uploaded[0].name == event.results.faults[0].name == SHOWN
    assert event.results.faults[0].message == f"no room while reading {SHOWN}"
    assert [notice.notice for notice in events_to_pb([Notice(ODD)])] == [SHOWN]
    assert NotShared(ODD, ODD).to_pb() == pb.NotShared(name=SHOWN, reason=SHOWN)


def test_a_large_command_and_its_results_travel_in_several_messages(ana: LivePserver) -> None:
    names = [f"{number}" + 100_000 * "x" for number in range(30)]
    with ana.control() as control:
        parts = (pb.RemoveCommand(names=names[at : at + 10]) for at in range(0, 30, 10))
        events = list(control.RemoveFiles(parts, metadata=ana.cookie, timeout=20))
    assert max(event.ByteSize() for event in events) < MAX_MESSAGE_BYTES
    faults = list(itertools.chain.from_iterable(event.results.faults for event in events))
    assert [(fault.code, fault.name) for fault in faults] == [("no_such_file", name) for name in names]


def test_an_incomplete_command_has_no_effect(ana: LivePserver) -> None:
    ana.share("kept.txt", b"kept")
    with ana.control() as control:
        parts = iter([pb.RemoveCommand(names=["kept.txt"], more=True)])
        with pytest.raises(grpc.RpcError) as error:
            list(control.RemoveFiles(parts, metadata=ana.cookie, timeout=20))
    assert code_of(error.value)[1] == "interrupted"
    assert (ana.shared / "kept.txt").exists()


def test_a_file_whose_name_is_not_utf8_fails_alone(ana: LivePserver, tmp_path: Path) -> None:
    top = tmp_path / "photos"
    top.mkdir()
    (top / "good.txt").write_bytes(b"good")
    Path(f"{top}{ODD}").write_bytes(b"odd")
    with ana.control() as control:
        command = pb.UploadCommand(paths=[str(top)])
        events = list(control.UploadFileRequest(iter([command]), metadata=ana.cookie, timeout=20))
    shared = list(itertools.chain.from_iterable(event.results.uploaded for event in events))
    faults = list(itertools.chain.from_iterable(event.results.faults for event in events))
    assert [result.name for result in shared] == ["photos/good.txt"]
    assert [(fault.code, fault.name) for fault in faults] == [("bad_name", f"photos{SHOWN}")]


@pytest.mark.parametrize(
    "value",
    [
        Downloaded("a", "id", 3, "/s/a", 0.5, ("h:1",), 2, already_present=True, arguments=(0, 2)),
        Uploaded("a", "id", 3, ("h:1", "h:2"), (1,)),
        Removed("a", "id", 3, (0,)),
        *(Fault("io", "broken", "a", ("id",), (0, 1), hint) for hint in (*Hint, None)),
        *(Progress(phase, "a", 1, 2, 3, 4, 5.0, (SourceView("h:1", 1.0, 2, "active", ""),)) for phase in Phase),
        ListedFile("a", "id", 3, 1, 2),
        ListedPeer("h:1", "ana", 3, 0.5, Load(1, 2, 3, 4.0)),
        NotShared("a", "hashing", pending=True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_survives_the_trip_through_its_message(value: Any) -> None:
    assert type(value).from_pb(value.to_pb()) == value


@pytest.mark.parametrize("hint", Hint)
def test_a_hint_survives_the_trip_through_metadata(hint: Hint) -> None:
    assert hint_of(hint.value) is hint


def test_an_unknown_hint_is_none() -> None:
    assert hint_of("dance") is None
