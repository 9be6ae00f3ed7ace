"""What one tracker bears: python tests/benchmarks/bench_tracker.py. Needs wrk on PATH; prints a line for each figure.

The tracker runs as its users run it, one process, with the load beside it on the same machine. 100,000 files are
announced by ten peers each, so the index holds a million entries while pings and queries are measured.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

LAUNCHER = Path(__file__).parents[2] / "server" / "server.py"
FILES = 100_000
BATCH = 5_000
HOLDERS = 10
SECONDS = 10


@contextmanager
def tracker(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Address, port and pid of a tracker that runs while the block does."""
    env = folder / ".env_server"
    env.write_text(f"SERVER_URL=127.0.0.1\nSERVER_PORT=0\nSTATE_DIR={folder / 'state'}\nPING_TIMEOUT=3600\n")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, str(LAUNCHER), str(env)], stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline().removeprefix(b"READY "))
        yield f"http://127.0.0.1:{ready['port']}", ready["port"], process.pid
    finally:
        process.terminate()
        process.wait()


def login(base: str, number: int) -> dict[str, Any]:
    body = {"username": f"user{number}", "password": "benchmark", "url": f"127.0.0.1:{5000 + number}"}
    answer: dict[str, Any] = requests.post(f"{base}/login", json=body, timeout=60).json()
    return answer


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def announce(base: str, pid: int, logins: list[dict[str, Any]]) -> None:
    """A million entries, as a peer sends them: a list's first part, then changes."""
    batches = []
    for start in range(0, FILES, BATCH):
        files = [
            {
                "name": f"project/data/file-{n:06}.bin",
                "id": f"{n * 2654435761 % 2**256:064x}",
                "size": n,
                "complete": True,
            }
            for n in range(start, start + BATCH)
        ]
        number = start // BATCH
        body: dict[str, Any] = {"version": "0", "files": files}
        if number:
            body = {"base_version": str(number - 1), "version": str(number), "add": files}
        batches.append(json.dumps(body).encode())
    before, began = resident(pid), time.monotonic()
    with requests.Session() as session:
        for who in logins:
            headers = {"Authorization": f"Bearer {who['token']}", "Content-Type": "application/json"}
            for number, body_bytes in enumerate(batches):
                method = "PATCH" if number else "PUT"
                session.request(
                    method, f"{base}/index", data=body_bytes, headers=headers, timeout=60
                ).raise_for_status()
    taken, entries = time.monotonic() - began, len(logins) * FILES
    show("files announced a second", entries / taken, 200_000, at_least=True)
    show("bytes of memory an entry", (resident(pid) - before) / entries, 500, at_least=False)


def load(folder: Path, base: str, path: str, script: str) -> tuple[float, float]:
    """Requests a second and the 99th percentile in milliseconds, by wrk with 16 connections."""
    (folder / "load.lua").write_text(script)
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}", "--latency", "-s", str(folder / "load.lua"), base + path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", told)
    late = re.search(r"99%\s+([0-9.]+)(us|ms|s)", told)
    assert rate and late, told
    return float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1, "s": 1000}[late[2]]


def pings_and_queries(folder: Path, base: str, holder: dict[str, Any], asker: dict[str, Any]) -> None:
    body = json.dumps(
        {"epoch": holder["epoch"], "index_version": "19", "load": {"uploads": 1, "free_bytes": 10**9, "rate": 1.5}}
    )
    headers = 'wrk.headers["Content-Type"]="application/json"\nwrk.headers["Authorization"]="Bearer {}"\n'
    ping = f"wrk.method='PUT'\nwrk.body='{body}'\n" + headers.format(holder["token"])
    query = headers.format(asker["token"]) + (
        "local n = 0\nrequest = function()\n  n = (n * 1103515245 + 12345) % 2147483648\n"
        f'  return wrk.format("GET", string.format("/query?name=project/data/file-%06d.bin", n % {FILES}))\nend\n'
    )
    rate, late = load(folder, base, "/ping", ping)
    show("pings a second", rate, 4_000, at_least=True)
    show("ms, 99th percentile of pings", late, 20, at_least=False)
    rate, _ = load(folder, base, "/", query)
    show(f"queries a second, {HOLDERS} holders each", rate, 3_000, at_least=True)


def slow_clients(base: str, port: int, who: dict[str, Any]) -> None:
    """300 connections that send a byte a second, in the head and in the body of requests."""
    slow = []
    for number in range(300):
        connection = socket.create_connection(("127.0.0.1", port))
        length = b"" if number % 2 else b"Content-Length: 10000\r\n\r\n"
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + length)
        slow.append(connection)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(1):
            for connection in slow:
                try:
                    connection.sendall(b"x")
                except OSError:
                    continue

    thread = threading.Thread(target=drip)
    thread.start()
    worst, until = 0.0, time.monotonic() + SECONDS
    headers = {"Authorization": f"Bearer {who['token']}"}
    while time.monotonic() < until:
        began = time.monotonic()
        body = {"epoch": who["epoch"], "index_version": "19"}
        requests.put(f"{base}/ping", json=body, headers=headers, timeout=10).raise_for_status()
        worst = max(worst, time.monotonic() - began)
    stop.set()
    thread.join()
    show("ms, the slowest ping beside 300 slow clients", worst * 1000, 1_000, at_least=False)


def show(what: str, figure: float, target: float, *, at_least: bool) -> None:
    ratio = figure / target if at_least else target / figure
    bound = "at least" if at_least else "at most"
    print(f"{what:48} {figure:12,.1f}   {bound} {target:9,}   {ratio:6.2f} x", flush=True)


def main() -> int:
    if shutil.which("wrk") is None:
        print("bench_tracker: needs wrk (on Debian: apt-get install wrk)", file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory() as name, tracker(Path(name)) as (base, port, pid):
        logins = [login(base, number) for number in range(HOLDERS + 1)]
        announce(base, pid, logins[:HOLDERS])
        pings_and_queries(Path(name), base, logins[0], logins[HOLDERS])
        slow_clients(base, port, logins[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
