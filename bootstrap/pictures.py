"""Makes the pictures of the documents in docs/images from a real run: a terminal and the dashboard, light and dark.

    ./bootstrap/pictures

Starts a tracker and three peers on free ports, and ends them. Needs Chromium and its chromedriver.
"""

import argparse
import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pexpect
from selenium import webdriver
from selenium.webdriver.common.by import By

from programs import PCLIENT, PSERVER, SERVER, TOP, NotReady, Program, write_env
from screen_capture import THEMES, TerminalScreen

IMAGES = TOP / "docs" / "images"
LOOPBACK = "127.0.0.1"
MIB = 1 << 20
COLUMNS = 92
WINDOW = (1280, 900)
TIMEOUT = 60.0
# One for each picture of the dashboard: a download of it is under way there.
SLOW_FILES = ("render-1.tar", "render-2.tar")
# Of the peer that downloads, in bytes per second: slow enough for a bar to be seen half full.
DOWNLOAD_LIMIT = 24 * MIB


class PictureFailed(Exception):
    """Something did not appear in time. The message says what."""


@dataclass(frozen=True)
class Peer:
    """A running pserver whose user is logged in."""

    user: str
    password: str
    home: Path
    env: Path

    def run(self, *words: str, typed: str = "") -> str:
        """Run a pclient command to its end, without a terminal; return its stdout."""
        command = [sys.executable, str(PCLIENT), str(self.env), *words]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False, cwd=self.home)
        if done.returncode:
            raise PictureFailed(f"pclient {' '.join(words)}: {done.stderr}")
        return done.stdout

    def show(self, screen: TerminalScreen, *words: str, until: Callable[[str], bool] | None = None) -> None:
        """Run a pclient command in a terminal and let `screen` see it.

        Args:
            screen: what the command's output is added to, below a prompt.
            words: the command and its arguments.
            until: stop watching once the screen's text satisfies this; without it, at the command's end.
        """
        screen.feed(f"\x1b[1;32m{self.user} $\x1b[0m pclient {' '.join(words)}\r\n")
        child = pexpect.spawn(
            sys.executable,
            [str(PCLIENT), str(self.env), *words],
            cwd=str(self.home),
            dimensions=(50, COLUMNS),
            encoding="utf-8",
            timeout=TIMEOUT,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )
        with contextlib.suppress(pexpect.EOF):
            while until is None or not until(screen.text()):
                screen.feed(child.read_nonblocking(4096, TIMEOUT))
        if until is not None:
            child.expect(pexpect.EOF)
        child.close()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, TIMEOUT at most."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise PictureFailed(f"{what} did not happen within {TIMEOUT:.0f} s")
        time.sleep(0.1)


def make_file(path: Path, size: int) -> None:
    """Write `size` random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(secrets.token_bytes(size))


class Network:
    """A tracker and peers on free ports; `stack` ends them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.tracker = self._start("tracker", SERVER, SERVER_URL=LOOPBACK, SERVER_PORT=0, STATE_DIR=folder / "tracker")

    def peer(self, user: str, **keys: object) -> Peer:
        """Start a pserver and log its user in; `keys` are further env keys."""
        home = self._folder / user
        home.mkdir()
        daemon = self._start(
            f"pserver_{user}",
            PSERVER,
            PSERVER_URL=LOOPBACK,
            PSERVER_LOCAL_URL=LOOPBACK,
            PSERVER_PORT=0,
            SERVER_URL=LOOPBACK,
            SERVER_PORT=self.tracker.port,
            SHARED_DIR=home / "shared",
            STATE_DIR=home / "state",
            PING_INTERVAL=0.5,
            **keys,
        )
        values = {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": daemon.port, "STATE_DIR": home / "state"}
        peer = Peer(user, secrets.token_urlsafe(9), home, write_env(self._folder / f".env_{user}", values))
        peer.run("login", user, "--password-stdin", typed=peer.password + "\n")
        return peer

    def _start(self, name: str, script: Path, **values: object) -> Program:
        env = write_env(self._folder / f".env_{name}", values)
        program = Program(name, script, [env], self._folder / f"{name}.log")
        self._stack.callback(program.stop)
        program.start()
        return program


def share(ana: Peer, ben: Peer, cleo: Peer) -> None:
    """Fill the network with files of several sizes, at one, two and three peers."""
    make_file(ana.home / "film.bin", 128 * MIB)
    ana.run("upload", "film.bin", "--copies", "2")
    for number in range(1, 6):
        make_file(ben.home / "photos" / f"{number:02}.jpg", number * MIB // 2)
    ben.run("upload", "photos", "--copies", "1")
    make_file(cleo.home / "results.tar", 24 * MIB)
    cleo.run("upload", "results.tar", "--copies", "2")
    for name in SLOW_FILES:
        make_file(cleo.home / name, 256 * MIB)
        cleo.run("upload", name, "--copies", "1")
    make_file(ana.home / "notes.txt", 4200)
    ana.run("upload", "notes.txt", "--copies", "0")


def terminal(peer: Peer) -> TerminalScreen:
    """Let a peer list the files and download one; return the screen while the download is half done."""
    screen = TerminalScreen()
    peer.show(screen, "files")

    def half_done(text: str) -> bool:
        # The last line is that of the sources: the picture is complete.
        return re.search(r"\b(4[5-9]|[5-7][0-9]) %.*\n.* peers: .*/s", text) is not None

    peer.show(screen, "download", "film.bin", until=half_done)
    return screen


def dashboard(address: str, peer: Peer, downloader: Peer, profile: Path) -> dict[str, bytes]:
    """Log in at the dashboard while a download is running; return a PNG for each of THEMES."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--hide-scrollbars", "--no-first-run", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_window_size(*WINDOW)
        driver.get(address)
        driver.find_element(By.NAME, "username").send_keys(peer.user)
        driver.find_element(By.NAME, "password").send_keys(peer.password)
        driver.find_element(By.CSS_SELECTOR, "form button").click()
        wait_until(lambda: "film.bin" in driver.page_source, "the list of files")
        names = iter(SLOW_FILES)
        pictures = {}
        for theme in THEMES:
            media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            moving = subprocess.Popen(
                [sys.executable, str(PCLIENT), str(downloader.env), "--quiet", "download", next(names)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # The next pings carry the transfer to the tracker, and the page polls it.
            time.sleep(2.5)
            pictures[theme] = driver.get_screenshot_as_png()
            moving.wait(TIMEOUT)
        return pictures
    finally:
        driver.quit()


def main(arguments: list[str]) -> int:
    """Make all pictures; return the exit status."""
    argparse.ArgumentParser(prog="bootstrap/pictures", description="Make docs/images from a real run.").parse_args(
        arguments
    )
    IMAGES.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-pictures-", ignore_cleanup_errors=True))
        )
        try:
            network = Network(folder, stack)
            ana, ben, cleo = (network.peer(user) for user in ("ana", "ben", "cleo"))
            share(ana, ben, cleo)
            dora = network.peer("dora", DOWNLOAD_LIMIT=DOWNLOAD_LIMIT)
            screen = terminal(dora)
            for theme in THEMES:
                drawing = screen.svg(theme, "pclient", COLUMNS)
                (IMAGES / f"terminal-{theme}.svg").write_text(drawing)
            address = f"http://{network.tracker.host}:{network.tracker.port}/"
            for theme, picture in dashboard(address, ana, dora, folder / "profile").items():
                (IMAGES / f"dashboard-{theme}.png").write_bytes(picture)
        except (NotReady, PictureFailed) as error:
            print(f"pictures: {error}", file=sys.stderr)
            return 1
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.relative_to(TOP)}  {path.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
