"""Damaged or foreign part files and state: ignored and fetched again, never trusted, never fatal."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pserver_pb2 as pb
from common.state_files import LOCK_FILE
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker
from system.faults.counts import quick_and_long

MIB = 1 << 20
SIZE = 3 * MIB + 12345


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[LiveTracker]:
    with live_tracker(tmp_path / "tracker") as tracker:
        yield tracker


def fetch(peer: LivePserver, name: str) -> list[str]:
    """Download; return the faults."""
    with peer.control() as control:
        command = pb.DownloadCommand(names=[name])
        events = control.DownloadFileRequest(iter([command]), metadata=peer.cookie, timeout=60)
        return [f"{fault.code}: {fault.message}" for event in events for fault in event.results.faults]


def damage(path: Path, rng: random.Random, elsewhere: Path) -> None:
    """Damage a file in one of the ways of disks, crashes and users."""
    data = path.read_bytes()
    match rng.randrange(8):
        case 0:
            path.write_bytes(data[: rng.randrange(len(data) + 1)])
        case 1:
            path.write_bytes(data + rng.randbytes(rng.randrange(1, 5000)))
        case 2:
            path.write_bytes(rng.randbytes(len(data)))
        case 3:
            path.write_bytes(b"")
        case 4:
            path.unlink()
            path.mkdir()
        case 5:
            path.unlink()
            path.symlink_to(elsewhere)
        case 6:
            path.unlink()
            os.mkfifo(path)
        case _:
            # The file may be empty from an earlier round.
            flipped = bytearray(data or b"\0")
            for _ in range(rng.randrange(1, 20)):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)


def restore(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@quick_and_long("rounds", 60, 1500)
def test_a_damaged_part_file_is_fetched_again(
    tmp_path: Path, tracker: LiveTracker, rng: random.Random, rounds: int
) -> None:
    truth = rng.randbytes(SIZE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"not to be touched")
    with (
        live_pserver(tmp_path / "ana", tracker, "ana") as ana,
        live_pserver(tmp_path / "ben", tracker, "ben", ping_interval=5.0) as ben,
    ):
        manifest = ana.share("film.bin", truth)
        ana.call(ana.pserver.announcer.sync())
        dot = ben.shared / ".p2p"
        for number in range(rounds):
            with ben.pserver.part_store.open(manifest, "name") as part:
                for piece in rng.sample(range(4), rng.randrange(1, 4)):
                    at = manifest.offset(piece)
                    part.store(piece, [truth[at : at + manifest.length(piece)]])
            for path in rng.sample(sorted(dot.iterdir()), rng.randrange(1, 3)):
                damage(path, rng, elsewhere)
            assert fetch(ben, "film.bin") == [], f"round {number}"
            assert (ben.shared / "film.bin").read_bytes() == truth, f"round {number}"
            with ben.control() as control:
                list(control.RemoveFiles(iter([pb.RemoveCommand(names=["film.bin"])]), metadata=ben.cookie, timeout=20))
            for path in dot.iterdir():
                restore(path)
            assert elsewhere.read_bytes() == b"not to be touched"


@quick_and_long("rounds", 40, 500)
def test_a_pserver_with_damaged_state_starts_and_works(
    tmp_path: Path, tracker: LiveTracker, rng: random.Random, rounds: int
) -> None:
    truth = rng.randbytes(SIZE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"not to be touched")
    home = tmp_path / "ben"
    with live_pserver(tmp_path / "ana", tracker, "ana") as ana:
        ana.share("film.bin", truth)
        ana.call(ana.pserver.announcer.sync())
        with live_pserver(home, tracker, "ben"):
            pass
        for number in range(rounds):
            for path in rng.sample(sorted((home / "state").iterdir()), 2):
                if path.is_file() and not path.is_symlink() and path.name != LOCK_FILE:
                    damage(path, rng, elsewhere)
                if path.is_dir():
                    # With a folder in place of a state file a pserver refuses to start, which is not the subject here.
                    path.rmdir()
            with live_pserver(home, tracker) as ben:
                ben.login("ben")
                assert fetch(ben, "film.bin") == [], f"round {number}"
                assert (ben.shared / "film.bin").read_bytes() == truth, f"round {number}"
            (home / "shared" / "film.bin").unlink()
            assert elsewhere.read_bytes() == b"not to be touched"
