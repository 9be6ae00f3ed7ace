"""What Control tells its terminal crosses, whatever bytes the names and paths in it are made of."""

import itertools
import os
from pathlib import Path

import grpc
import pytest

import pserver_pb2 as pb
from common.control_messages import Downloaded, Event, Fault, Notice, Uploaded, events_to_pb
from common.status_messages import NotShared
from daemon.errors import StorageFault
from daemon.peers.client import MAX_MESSAGE_BYTES
from live_pserver import LivePserver, code_of

ODD = os.fsdecode(b"/caf\xe9.txt")
SHOWN = "/caf\\udce9.txt"


def test_a_name_that_is_not_utf8_is_told_with_its_byte_escaped() -> None:
    events: list[Event] = [
        Downloaded(ODD, "", 1, ODD, 0.0, (), 0, already_present=False),
        Uploaded(ODD, "", 1, ()),
        Fault.of(StorageFault(f"no room while reading {ODD}", name=ODD)),
    ]
    (told,) = events_to_pb(events)
    assert (told.results.downloaded[0].name, told.results.downloaded[0].path) == (SHOWN, SHOWN)
    assert told.results.uploaded[0].name == told.results.faults[0].name == SHOWN
    assert told.results.faults[0].message == f"no room while reading {SHOWN}"
    assert [event.notice for event in events_to_pb([Notice(ODD)])] == [SHOWN]
    assert NotShared(ODD, ODD).to_pb() == pb.NotShared(name=SHOWN, reason=SHOWN)


def test_an_order_larger_than_a_message_comes_in_parts_and_so_does_what_is_told_of_it(ana: LivePserver) -> None:
    names = [f"{number}" + 100_000 * "x" for number in range(30)]
    with ana.control() as control:
        parts = (pb.RemoveCommand(names=names[at : at + 10]) for at in range(0, 30, 10))
        events = list(control.RemoveFiles(parts, metadata=ana.cookie, timeout=20))
    assert max(event.ByteSize() for event in events) < MAX_MESSAGE_BYTES
    faults = list(itertools.chain.from_iterable(event.results.faults for event in events))
    assert [(fault.code, fault.name) for fault in faults] == [("no_such_file", name) for name in names]


def test_of_an_order_whose_terminal_ends_in_its_middle_nothing_is_done(ana: LivePserver) -> None:
    ana.share("kept.txt", b"kept")
    with ana.control() as control:
        parts = iter([pb.RemoveCommand(names=["kept.txt"], more=True)])
        with pytest.raises(grpc.RpcError) as error:
            list(control.RemoveFiles(parts, metadata=ana.cookie, timeout=20))
    assert code_of(error.value)[1] == "interrupted"
    assert (ana.shared / "kept.txt").exists()


def test_what_is_well_is_told_though_a_name_beside_it_is_not_utf8(ana: LivePserver, tmp_path: Path) -> None:
    top = tmp_path / "photos"
    top.mkdir()
    (top / "good.txt").write_bytes(b"good")
    Path(f"{top}{ODD}").write_bytes(b"odd")
    with ana.control() as control:
        order = pb.UploadCommand(paths=[str(top)])
        events = list(control.UploadFileRequest(iter([order]), metadata=ana.cookie, timeout=20))
    shared = list(itertools.chain.from_iterable(event.results.uploaded for event in events))
    faults = list(itertools.chain.from_iterable(event.results.faults for event in events))
    assert [result.name for result in shared] == ["photos/good.txt"]
    assert [(fault.code, fault.name) for fault in faults] == [("bad_name", f"photos{SHOWN}")]
