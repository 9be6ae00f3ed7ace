"""Claims about hostile names, pushed or typed: only files with valid names appear, in the shared folder."""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

import pserver_pb2 as pb
from daemon.errors import PeerError
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name
from daemon.transfer.batch_serve import MAX_FILES_PER_MESSAGE
from live_pserver import LivePserver
from names_cases import BAD, GOOD
from ticket_signer import WRITE

REQUESTER = "a" * 32
PIECES = (
    *(
        "..",
        ".",
        "/",
        "//",
        "\\",
        "C:",
        "~",
        "%2e%2e",
        ".p2p",
        ".ssh",
        "etc/passwd",
        "con",
        "NUL.txt",
        "a",
        "b.txt",
        " ",
    ),
    *(
        "\0",
        "\n",
        "\r",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u2028",
        "é",
        "e\u0301",
        "日本",
        "👩\u200d🚀",
    ),
    "x" * 201,
)
# Characters that no valid name contains. Line separators are allowed; pclient escapes them on the screen.
HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
quick_and_long = pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])


def names(count: int) -> list[str]:
    """The table of names_cases, and names made of random parts."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    table = [name for name in (*GOOD, *(name for name, _ in BAD)) if can_be_sent(name)]
    return [*table, *("".join(dice.choices(PIECES, k=dice.randint(1, 6))) for _ in range(count - len(table)))]


def can_be_sent(name: str) -> bool:
    """Whether protobuf can encode it: it refuses lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_valid(name: str) -> bool:
    try:
        check_name(name)
    except PeerError:
        return False
    return True


def below(folder: Path) -> set[str]:
    """The paths of all files below a folder, except those in STATE_DIR and the dot-folder."""
    own = ("state", ".p2p")
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {path.as_posix() for path in paths if not any(part in own for part in path.parts[:2])}


def push(ana: LivePserver, files: Sequence[tuple[str, bytes]]) -> dict[int, pb.SmallFileVerdict]:
    """Offer files, send those that are wanted, and return the last verdict on each."""
    offers = [
        pb.SmallFileOffer(
            number=number,
            name=name,
            size=len(content),
            ticket=ana.ticket(Manifest.of_bytes(content).id, WRITE, requester=REQUESTER)[0][1],
        )
        for number, (name, content) in enumerate(files)
    ]
    verdicts: dict[int, pb.SmallFileVerdict] = {}
    said = SimpleQueue[bytes | None]()
    said.put(pb.UploadSmallFilesRequest(offers=offers).SerializeToString())
    with ana.channel() as channel:
        call = channel.stream_stream("/p2p.v1.Transfer/UploadSmallFiles")
        replies = call(iter(said.get, None), metadata=ana.ticket("ab" * 32, WRITE, requester=REQUESTER), timeout=60)
        for reply in replies:
            heard = pb.UploadSmallFilesResponse.FromString(reply).verdicts
            verdicts.update({verdict.number: verdict for verdict in heard})
            wanted = [verdict.number for verdict in heard if verdict.verdict == pb.SmallFileVerdict.VERDICT_WANTED]
            said.put(encode([Block(number, 0, files[number][1]) for number in wanted]) if wanted else None)
    return verdicts


@quick_and_long
def test_pushed_files_stay_inside_the_shared_folder(ana: LivePserver, count: int) -> None:
    files = [(name, f"{number}".encode()) for number, name in enumerate(names(count))]
    before = below(ana.home.parent)
    for at in range(0, len(files), MAX_FILES_PER_MESSAGE):
        batch = files[at : at + MAX_FILES_PER_MESSAGE]
        for number, verdict in push(ana, batch).items():
            if not is_valid(batch[number][0]):
                assert (verdict.verdict, verdict.code) == (pb.SmallFileVerdict.VERDICT_REFUSED, "bad_name"), batch[
                    number
                ]
            assert not HARMFUL.search(verdict.message), verdict
    shared = f"{ana.home.name}/{ana.shared.name}/"
    for path in below(ana.home.parent) - before:
        assert path.startswith(shared), path
        assert is_valid(path.removeprefix(shared)), path


@quick_and_long
def test_hostile_names_in_commands_are_refused_in_one_line(ana: LivePserver, count: int) -> None:
    before = below(ana.home.parent)
    with ana.control() as control:
        typed = names(count)
        for at in range(0, len(typed), 500):
            command = pb.DownloadCommand(names=typed[at : at + 500])
            for event in control.DownloadFileRequest(iter([command]), metadata=ana.cookie, timeout=60):
                for fault in event.results.faults:
                    assert fault.code in {"bad_name", "bad_usage", "no_such_file"}, fault
                    assert not HARMFUL.search(fault.message), fault
        for name in typed[::5]:
            command = pb.DownloadCommand(names=["nothing"], output=name)
            for event in control.DownloadFileRequest(iter([command]), metadata=ana.cookie, timeout=60):
                assert all(fault.code != "internal" for fault in event.results.faults), name
    assert below(ana.home.parent) == before
