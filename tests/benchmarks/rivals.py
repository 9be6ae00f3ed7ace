"""Other tools as contestants: installs, starts and stops them. Tests never need them."""

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

from benchmarks.processes import free_port, wait_until_listening

TORRENT = Path(__file__).resolve().with_name("torrent.py")
LIBTORRENT = "libtorrent==2.1.1"


class NotAvailable(Exception):
    """A tool is missing and cannot be installed."""


def require_programs(**packages: str) -> None:
    """Install missing programs; each keyword is a program, its value the Debian package.

    Raises:
        NotAvailable: if that fails.
    """
    lacking = sorted({package for program, package in packages.items() if shutil.which(program) is None})
    if not lacking:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotAvailable(f"needs {', '.join(lacking)}: install them, or run as root on Debian")
    # A fresh machine has no package lists, so the first attempt may fail.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *lacking]
    if subprocess.run(install, env=environment, capture_output=True, check=False).returncode:
        subprocess.run(["apt-get", "update", "-q"], env=environment, capture_output=True, check=False)
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotAvailable(f"could not install {', '.join(lacking)}: {done.stderr[-300:]}")


@contextmanager
def nginx(
    folder: Path, root: Path, certificate: Path | None = None, key: Path | None = None
) -> Iterator[tuple[str, int]]:
    """Serve a folder with nginx; yield its URL and the process id."""
    require_programs(nginx="nginx-light", curl="curl")
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
        wait_until_listening(port)
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def rsync_daemon(folder: Path, root: Path) -> Iterator[str]:
    """Serve a folder with an rsync daemon; yield its URL."""
    require_programs(rsync="rsync")
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
        wait_until_listening(port)
        yield f"rsync://127.0.0.1:{port}/files/"
    finally:
        process.terminate()
        process.wait(10)


def cache() -> Path:
    """Return the folder of installed tools, outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2p-bench"


def torrent_python() -> Path:
    """Return a Python with libtorrent, in an environment outside the checkout.

    Raises:
        NotAvailable: if libtorrent cannot be installed.
    """
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
            raise NotAvailable(f"could not install libtorrent: {done.stderr[-300:]}")
    return python


class JsonProcess:
    """A helper process that reads requests and writes responses as lines of JSON."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, **request: object) -> None:
        """Send a request."""
        pipe = self._pipe(self._process.stdin)
        pipe.write(json.dumps(request) + "\n")
        pipe.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the next response.

        Raises:
            RuntimeError: if the process has exited.
        """
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"a helper ended with exit status {self._process.wait()}: {self._process.args!r}")
        response: dict[str, Any] = json.loads(line)
        return response

    def request(self, **request: object) -> dict[str, Any]:
        """Send a request and return the response."""
        self.send(**request)
        return self.receive()

    def close(self) -> None:
        """Close its stdin, on which it exits; kill it after 5 s."""
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


def torrent(folder: Path, listen: str, *prefix: str) -> JsonProcess:
    """Start torrent.py in `folder`, listening on address `listen`; `prefix` is put before its command line."""
    return JsonProcess([*prefix, torrent_python(), "-W", "ignore", TORRENT, folder, listen])
