"""The demo: a tracker and two peers on this machine. One file is downloaded from peer to peer, another is uploaded.

    ./bootstrap/demo          opens the second peer's menu at the end, if there is a terminal
    ./bootstrap/demo --once   exits after the transfers

All files are in one temporary folder, which is deleted at the end. All ports are free ones.
"""

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from programs import PCLIENT, PSERVER, SERVER, NotReady, Program, write_env

LOOPBACK = "127.0.0.1"
MIB = 1 << 20


class DemoFailed(Exception):
    """A step failed; the message says which."""


@dataclass(frozen=True)
class Peer:
    """A running pserver, and what pclient needs to use it."""

    user: str
    password: str
    shared: Path
    env: Path
    program: Program

    def command(self, *words: str) -> list[str]:
        """Return the command line of pclient for this peer."""
        return [sys.executable, str(PCLIENT), str(self.env), *words]

    def run(self, *words: str, typed: str | None = None) -> list[dict[str, Any]]:
        """Print a pclient command, run it with --json and return its objects. Progress goes to the terminal.

        Args:
            words: the command and its arguments.
            typed: text for its stdin.

        Raises:
            DemoFailed: if its exit status is not 0.
        """
        print(f"\n{bold(self.user + ' $')} pclient {' '.join(words)}", flush=True)
        done = subprocess.run(
            self.command("--json", *words), input=typed, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            raise DemoFailed(f"pclient {words[0]} ended with exit status {done.returncode}: {done.stdout.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def bold(text: str) -> str:
    """Return `text`, bold on a terminal unless NO_COLOR is set."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def make_file(path: Path, size: int) -> None:
    """Write a file of `size` random bytes, rounded down to whole MiB."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(secrets.token_bytes(MIB))


def show_digest(owner: str, path: Path, folder: Path) -> str:
    """Print and return the SHA-256 of a file below `folder`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    print(f"  {owner}: {path.relative_to(folder)}\n  {digest}")
    return digest


def start_programs(folder: Path, stack: contextlib.ExitStack) -> tuple[Program, Peer, Peer]:
    """Start the tracker and two peers, which `stack` stops.

    Raises:
        NotReady: if one of them does not start.
    """

    def program(name: str, script: Path, **values: object) -> Program:
        env = write_env(folder / f".env_{name}", values)
        started = Program(name, script, [env], folder / f"{name}.log")
        stack.callback(started.stop)
        started.start()
        print(f"  {name} listens on {started.host}:{started.port}", flush=True)
        return started

    tracker = program("tracker", SERVER, SERVER_URL=LOOPBACK, SERVER_PORT=0, STATE_DIR=folder / "tracker")
    peers = []
    for name, user in (("peer1", "ana"), ("peer2", "ben")):
        home = folder / name
        daemon = program(
            name,
            PSERVER,
            PSERVER_URL=LOOPBACK,
            PSERVER_LOCAL_URL=LOOPBACK,
            PSERVER_PORT=0,
            SERVER_URL=LOOPBACK,
            SERVER_PORT=tracker.port,
            SHARED_DIR=home / "shared",
            STATE_DIR=home / "state",
        )
        terminal = {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": daemon.port, "STATE_DIR": home / "state"}
        env = write_env(folder / f".env_{name}_terminal", terminal)
        peers.append(Peer(user, secrets.token_urlsafe(9), home / "shared", env, daemon))
    return tracker, peers[0], peers[1]


def run_transfers(folder: Path, ana: Peer, ben: Peer, mebibytes: int) -> None:
    """Let ben download a file of ana's, then upload one that the tracker has copied to ana.

    Raises:
        DemoFailed: if a command fails or the copies differ.
    """
    for peer in (ana, ben):
        [logged_in] = peer.run("login", peer.user, "--password-stdin", typed=peer.password + "\n")
        print(f"  Logged in as {logged_in['user']}" + (" (a new account)" if logged_in["registered"] else ""))

    film = folder / "film.bin"
    make_file(film, mebibytes * MIB)
    print(f"\n{bold('A file that only ana has')} is shared, and ben downloads it.")
    ana.run("upload", str(film), "--copies", "0")
    [got] = ben.run("download", "film.bin")
    print(
        f"\n  {got['size']:,} bytes, each piece verified,",
        f"in {got['seconds']:.2f} s from {', '.join(got['holders'])}",
    )
    if show_digest("ana", film, folder) != show_digest("ben", Path(got["path"]), folder):
        raise DemoFailed("the digests differ")

    songs = folder / "songs.bin"
    make_file(songs, mebibytes * MIB // 4)
    print(f"\n{bold('ben uploads a file')}; the tracker picks a peer to store a copy.")
    [sent] = ben.run("upload", str(songs))
    print(f"\n  copies at {', '.join(sent['copies'])}")
    if show_digest("ben", songs, folder) != show_digest("ana", ana.shared / "songs.bin", folder):
        raise DemoFailed("the digests differ")


@contextlib.contextmanager
def ctrl_c_for_the_menu_only() -> Iterator[None]:
    """Leave Ctrl-C to the menu. Needs a handler, since the menu would inherit an ignored signal."""

    def leave_it(number: int, frame: FrameType | None) -> None:
        del number, frame

    before = signal.signal(signal.SIGINT, leave_it)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main(arguments: list[str]) -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="bootstrap/demo", description="Starts a tracker and two peers on this machine and transfers two files."
    )
    parser.add_argument("--once", action="store_true", help="exit after the transfers, without the menu")
    parser.add_argument("--size", type=int, default=64, metavar="MIB", help="size of the downloaded file")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-demo-", ignore_cleanup_errors=True)))
        print(bold("Starting a tracker and two peers"), f"in {folder}", flush=True)
        try:
            tracker, ana, ben = start_programs(folder, stack)
            dashboard = f"http://{tracker.host}:{tracker.port}/"
            print(f"  Dashboard: {dashboard}")
            run_transfers(folder, ana, ben, max(options.size, 4))
        except (DemoFailed, NotReady) as error:
            print(f"demo: {error}", file=sys.stderr)
            for log in sorted(folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        print(f"\n{bold('Both files are on both peers now.')}")
        if options.once or not sys.stdin.isatty():
            print("  Demo finished, files deleted. Without --once it keeps running\n  while ben's menu is open.")
            return 0
        print(f"  dashboard  {dashboard}  (user {ana.user}, password {ana.password})")
        print(f"  ana's files  {ana.shared}\n  ben's files  {ben.shared}")
        print(
            f"\n{bold('This is the menu of ben.')} Quitting stops the demo and deletes its files.\n",
            flush=True,
        )
        with ctrl_c_for_the_menu_only():
            subprocess.run(ben.command(), check=False)
    return 0


def main_with_closed_stdout(arguments: list[str]) -> int:
    """Run `main`; return 1 without a traceback if the reader of stdout has gone."""
    try:
        status = main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout at exit, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main_with_closed_stdout(sys.argv[1:]))
