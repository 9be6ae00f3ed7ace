"""A real nginx in front of a tracker, as operators run it."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eventually import eventually
from ports import reserve_port

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


@contextmanager
def nginx(folder: Path, server: str, *, port: int = 0, tls: bool = False, http: str = "") -> Iterator[int]:
    """Run nginx on loopback until the block ends.

    Args:
        folder: where its files are; it is created.
        server: the directives of its one server, such as `location / { proxy_pass http://127.0.0.1:5000; }`.
        port: where it listens; 0 for a reserved port.
        tls: whether it listens with TLS; `server` then names certificate and key.
        http: further directives of its http block.

    Yields:
        The port.
    """
    port = port or reserve_port()
    listen = f"127.0.0.1:{port}{' ssl' if tls else ''}"
    with nginx_with(folder, f"{http} server {{ listen {listen}; {server} }}"):
        yield port


@contextmanager
def nginx_with(folder: Path, http: str, *, prefix: Sequence[str] = ()) -> Iterator[None]:
    """Run nginx until the block ends.

    Args:
        folder: where its files are; it is created.
        http: the directives of its http block, as in a file of /etc/nginx/conf.d.
        prefix: what is put before its command line.
    """
    folder.mkdir(parents=True)
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, http=http))
    process = subprocess.Popen([*prefix, "nginx", "-e", folder / "error.log", "-p", folder, "-c", config])
    try:
        eventually(lambda: _is_ready(process, folder))
        yield
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Whether nginx has opened its port: it writes its pid after that.

    Raises:
        AssertionError: nginx has exited; shows its log.
    """
    assert process.poll() is None, (folder / "error.log").read_text()
    pid = folder / "nginx.pid"
    return pid.exists() and bool(pid.read_text().strip())
