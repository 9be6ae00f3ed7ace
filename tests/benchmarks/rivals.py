"""The tools that we are measured against: installed when missing, started, stopped. Tests never need them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.processes import free_port, listening

TORRENT = Path(__file__).resolve().with_name("torrent.py")
LIBTORRENT = "libtorrent==2.1.1"


class Missing(Exception):
    """A tool is not here and cannot be had."""


def need(**packages: str) -> None:
    """Install what is missing: program=package, of Debian."""
    lacking = sorted({package for program, package in packages.items() if shutil.which(program) is None})
    if not lacking:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"needs {', '.join(lacking)}: install them, or run as root on Debian")
    # Nothing is to start by itself; a fresh machine has no lists of packages.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *lacking]
    if subprocess.run(install, env=environment, capture_output=True, check=False).returncode:
        subprocess.run(["apt-get", "update", "-q"], env=environment, capture_output=True, check=False)
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"could not install {', '.join(lacking)}: {done.stderr[-300:]}")


@contextmanager
def nginx(
    folder: Path, root: Path, certificate: Path | None = None, key: Path | None = None
) -> Iterator[tuple[str, int]]:
    """Serve the files of a folder; yield the URL and the process's id."""
    need(nginx="nginx-light", curl="curl")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};" if certificate else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""}
        daemon off; worker_processes auto; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 256; }}
        http {{ access_log off; sendfile on; tcp_nopush on; {temporary}
                server {{ listen 127.0.0.1:{port}{" ssl" if certificate else ""}; {tls} root {root}; }} }}
        """
    )
    process = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    )
    try:
        listening(port)
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def rsync_daemon(folder: Path, root: Path) -> Iterator[str]:
    """Serve a folder as an rsync module; yield its URL."""
    need(rsync="rsync")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    owner = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
    (folder / "rsyncd.conf").write_text(
        f"{owner}use chroot = no\npid file = {folder}/pid\nlog file = {folder}/log\n[files]\npath = {root}\n"
        "read only = yes\n"
    )
    process = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", f"--config={folder}/rsyncd.conf", "--address=127.0.0.1", f"--port={port}"]
    )
    try:
        listening(port)
        yield f"rsync://127.0.0.1:{port}/files/"
    finally:
        process.terminate()
        process.wait(10)


def cache() -> Path:
    """Where other tools are kept from run to run, outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2p-bench"


def torrent_python() -> Path:
    """A Python that has libtorrent, in an environment outside the checkout."""
    venv = cache() / "venv"
    python = venv / "bin" / "python"
    if (
        subprocess.run([python, "-c", "import libtorrent"], capture_output=True, check=False).returncode
        if python.exists()
        else True
    ):
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", LIBTORRENT], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Missing(f"could not install libtorrent: {done.stderr[-300:]}")
    return python


class Talker:
    """A helper process that is told lines of JSON and answers with as many."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, **order: object) -> None:
        """Tell it to begin something."""
        pipe = self._pipe(self._process.stdin)
        pipe.write(json.dumps(order) + "\n")
        pipe.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer."""
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"a helper ended with exit status {self._process.wait()}: {self._process.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **order: object) -> dict[str, Any]:
        """Tell, and hear."""
        self.tell(**order)
        return self.hear()

    def close(self) -> None:
        """End it: it goes when its stdin does."""
        self._pipe(self._process.stdin).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("stdin and stdout are pipes")
        return pipe


def torrent(folder: Path, listen: str, *prefix: str) -> Talker:
    """A libtorrent process at an address; `torrent.py` says what it understands. `prefix` runs it elsewhere."""
    return Talker([*prefix, torrent_python(), "-W", "ignore", TORRENT, folder, listen])
