"""Look-ups and pings per second that the tracker answers, load generator included."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request

from benchmarks import ours, rivals
from benchmarks.bench import Bench
from benchmarks.report import Report, interleave

_FILES = 1000
_CONNECTIONS = 16


def tracker(bench: Bench) -> Report:
    """Requests per second; a ping every 10 s of each peer says how many peers that is."""
    seconds = bench.size(5, 1)
    report = Report("tracker", f"requests per second, wrk with {_CONNECTIONS} connections, {_FILES} files in the index")
    rivals.need(wrk="wrk")
    with ours.cluster(bench) as cluster:
        url = f"http://127.0.0.1:{cluster.tracker.program.port}"
        holder = _post(url, "login", {"username": "ana", "password": "correct horse", "url": "127.0.0.1:5001"})
        asker = _post(url, "login", {"username": "ben", "password": "correct horse", "url": "127.0.0.1:5002"})
        files = [{"name": f"f{n}.bin", "id": f"{n:064x}", "size": 5, "complete": True} for n in range(_FILES)]
        _post(url, "index", {"version": "1", "files": files}, holder["token"], "PUT")
        ping = bench.folder / "ping.lua"
        body = json.dumps({"epoch": asker["epoch"], "index_version": "0", "load": {"uploads": 1}})
        ping.write_text(f"wrk.method = 'PUT'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/json'\n")

        def wrk(path: str, *script: object) -> float:
            command = [
                "wrk",
                "-t1",
                f"-c{_CONNECTIONS}",
                f"-d{seconds}s",
                "-H",
                f"Authorization: Bearer {asker['token']}",
            ]
            said = subprocess.run([*command, *map(str, script), url + path], capture_output=True, text=True, check=True)
            if "Non-2xx" in said.stdout:
                raise RuntimeError(said.stdout)
            [rate] = re.findall(r"Requests/sec:\s+([0-9.]+)", said.stdout)
            return float(rate)

        interleave(
            report,
            {
                "look-ups": lambda: {"look-ups": wrk("/query?name=f7.bin")},
                "pings": lambda: {"pings": wrk("/ping", "-s", ping)},
            },
            bench.times(3),
        )
    report.verdict(f"look-ups per second: {report.median('look-ups'):.0f}", report.median("look-ups"))
    pings = report.median("pings")
    report.verdict(f"pings per second: {pings:.0f}, of {pings * ours.PING_INTERVAL:.0f} peers", pings)
    return report


def _post(url: str, route: str, body: object, token: str = "", method: str = "POST") -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/{route}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, str] = json.load(answer)
        return found
