"""A name in another case or form of accents is the same name, in every command. Results have the stored spelling."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker

MIB = 1 << 20


def nfd(name: str) -> str:
    """Return a name as macOS stores it."""
    return unicodedata.normalize("NFD", name)


CAFE = nfd("Caf\xe9/Men\xfc.txt")
REPORT = "Papers/Report.PDF"
LARGE = "Papers/Gro\xdf.bin"
FILES = {CAFE: b"menu", REPORT: b"report", LARGE: os.urandom(2 * MIB), "Papers/other.txt": b"other"}


@pytest.fixture(scope="module")
def mia(folder: Path, tracker: LiveTracker) -> Iterator[LivePserver]:
    """A peer that shares FILES."""
    with live_pserver(folder / "mia", tracker, "mia") as live:
        for name, content in FILES.items():
            live.share(name, content)
        live.call(live.pserver.announcer.sync())
        yield live


@pytest.fixture
def lea(tmp_path: Path, tracker: LiveTracker, mia: LivePserver) -> Iterator[LivePserver]:
    with live_pserver(tmp_path / "lea", tracker, "lea") as live:
        yield live


def run(peer: LivePserver, method: str, command: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """Run a command; return the names of its results, and code and name of its faults."""
    with peer.control() as control:
        events = list(getattr(control, method)(iter([command]), metadata=peer.cookie, timeout=60))
    results = [event.results for event in events]
    good = [item.name for each in results for item in (*each.uploaded, *each.downloaded, *each.removed)]
    return sorted(good), [(fault.code, fault.name) for each in results for fault in each.faults]


def download(peer: LivePserver, *names: str, output: str = "") -> tuple[list[str], list[tuple[str, str]]]:
    return run(peer, "DownloadFileRequest", pb.DownloadCommand(names=names, output=output))


def remove(peer: LivePserver, *names: str) -> tuple[list[str], list[tuple[str, str]]]:
    return run(peer, "RemoveFiles", pb.RemoveCommand(names=names))


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("caf\xe9/men\xfc.txt", [CAFE]),
        ("CAF\xc9/", [CAFE]),
        ("caf?/m*", [CAFE]),
        ("papers/report.pdf", [REPORT]),
        ("PAPERS/GROSS.BIN", [LARGE]),
        ("papers/", [LARGE, REPORT, "Papers/other.txt"]),
        ("PAPERS/r*.pdf", [REPORT]),
    ],
)
def test_a_name_in_another_spelling_is_downloaded_and_removed(
    lea: LivePserver, argument: str, names: list[str]
) -> None:
    names = sorted(names)
    assert download(lea, argument) == (names, [])
    assert {name: (lea.shared / name).read_bytes() for name in names} == {name: FILES[name] for name in names}
    assert remove(lea, argument) == (names, [])
    assert not any((lea.shared / name).exists() for name in names)


def test_two_spellings_in_one_command_are_one_file(lea: LivePserver) -> None:
    assert download(lea, REPORT, "papers/report.pdf", "PAPERS/REP*") == ([REPORT], [])
    # It is here, in the stored spelling.
    assert download(lea, "PAPERS/report.PDF") == ([REPORT], [])


def test_two_spellings_of_one_content_are_one_version(lea: LivePserver, tmp_path: Path, tracker: LiveTracker) -> None:
    lea.share("PAPERS/REPORT.pdf", FILES[REPORT])
    lea.call(lea.pserver.announcer.sync())
    with live_pserver(tmp_path / "noa", tracker, "noa") as noa:
        for argument in ("papers/report.pdf", "papers/rep*"):
            ((name,), faults) = download(noa, argument)
            assert name in (REPORT, "PAPERS/REPORT.pdf")
            assert faults == []
        with noa.control() as control:
            request = pb.ListFilesRequest(match="report.pdf")
            pages = list(control.ListFiles(request, metadata=noa.cookie, timeout=30))
    (listed,) = [file for page in pages for file in page.files]
    assert listed.holders == 3


def test_other_content_in_another_spelling_is_another_version(
    lea: LivePserver, tmp_path: Path, tracker: LiveTracker
) -> None:
    lea.share("papers/REPORT.PDF", b"another report")
    lea.call(lea.pserver.announcer.sync())
    with live_pserver(tmp_path / "noa", tracker, "noa") as noa:
        for argument in ("papers/report.pdf", "papers/rep*"):
            names, ((code, _),) = download(noa, argument)
            assert (names, code) == ([], "ambiguous_name")
    # Nothing can be stored beside lea's own, so that is no choice.
    assert download(lea, REPORT) == ([], [("target_exists", REPORT)])


def test_a_taken_name_is_taken_in_every_spelling(lea: LivePserver, tmp_path: Path) -> None:
    lea.share("papers/GROSS.bin", b"mine")
    assert download(lea, LARGE) == ([], [("target_exists", LARGE)])
    assert download(lea, REPORT, output="Copy.PDF") == (["Copy.PDF"], [])
    assert download(lea, CAFE, output="copy.pdf") == ([], [("target_exists", "copy.pdf")])
    # The same content is there.
    assert download(lea, REPORT, output="COPY.pdf") == (["Copy.PDF"], [])


def test_an_upload_finds_what_is_shared_in_another_spelling(lea: LivePserver, tmp_path: Path) -> None:
    lea.share("Notes.TXT", b"notes")
    lea.share(nfd("Stra\xdfe/\xe4.txt"), b"street")
    outside = tmp_path / "notes.txt"
    outside.write_bytes(b"notes")

    def upload(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
        return run(lea, "UploadFileRequest", pb.UploadCommand(paths=[str(path)], copies=0))

    assert upload(outside) == (["Notes.TXT"], [])
    outside.write_bytes(b"other notes")
    assert upload(outside) == ([], [("target_exists", "notes.txt")])
    (lea.shared / "Notes.TXT").unlink()
    assert upload(outside) == (["notes.txt"], [])
    # Paths inside the shared folder are names.
    assert upload(lea.shared / "STRASSE" / "\xc4.TXT") == ([nfd("Stra\xdfe/\xe4.txt")], [])
    assert upload(lea.shared / "strasse") == ([nfd("Stra\xdfe/\xe4.txt")], [])
    assert upload(tmp_path / "NOTES.TXT")[1] == [("no_such_file", str(tmp_path / "NOTES.TXT"))]


def test_an_unshared_file_beside_the_shared_one_is_not_mistaken_for_it(lea: LivePserver) -> None:
    lea.share("Both.txt", b"shared")
    (lea.shared / "both.txt").write_bytes(b"not shared")
    assert remove(lea, "both.txt") == ([], [("no_such_file", "both.txt")])
    assert remove(lea, "BOTH.txt") == (["Both.txt"], [])
    assert (lea.shared / "both.txt").read_bytes() == b"not shared"


def test_a_download_in_another_spelling_attaches_to_the_running_one(
    folder: Path, tmp_path: Path, tracker: LiveTracker, mia: LivePserver
) -> None:
    with live_pserver(tmp_path / "eva", tracker, "eva", download_limit=MIB) as eva, eva.control() as control:
        started = []
        for name in (LARGE, "papers/gross.bin"):
            call = control.DownloadFileRequest(
                iter([pb.DownloadCommand(names=[name])]), metadata=eva.cookie, timeout=60
            )
            started.append((next(call).started.transfer, call))
        assert started[0][0] == started[1][0]
        for _, call in started:
            names = [file.name for event in call for file in event.results.downloaded]
            assert names == [LARGE]
    eventually((tmp_path / "eva" / "shared" / LARGE).exists)
