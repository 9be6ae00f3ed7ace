"""Throughput of our tracker and of other trackers, with the load generator on the same machine.

Our tracker has an index of a million entries and serves pings and queries. Other trackers serve announces, which
are both: a sign of life, as a ping is, and a request for the swarm, as a query is. Ours also checks a token, and signs
a ticket for every holder.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import requests

from benchmarks import ours, rival_trackers
from benchmarks.bench import Bench
from benchmarks.live_peers import CONNECTIONS as PING_CONNECTIONS
from benchmarks.live_peers import make_sessions, ping_all
from benchmarks.processes import resident_memory
from benchmarks.report import Contestant, Report, interleave
from benchmarks.rivals import NotAvailable, require_programs
from benchmarks.slow_clients import slow_clients, slowest_milliseconds
from benchmarks.wrk import CONNECTIONS, wrk
from programs import SERVER, Program, write_env

_HOLDERS = 10
_BATCH = 5000
_SWARMS = 1000
_SLOW = 300
_SLOW_SECONDS = 10


def tracker(bench: Bench) -> Report:
    """Measure pings, queries, announcements and memory."""
    files, live = bench.size(100_000, 10_000), bench.size(40_000, 400)
    report = Report("tracker", f"{files} files of {_HOLDERS} holders each; per second, or milliseconds")
    require_programs(wrk="wrk")
    with ExitStack() as stack:
        # Holders do not ping during the measurements.
        program = stack.enter_context(_started(bench.folder / "index", PING_TIMEOUT=3600))
        base = _url(program)
        peers = [_login(base, number) for number in range(_HOLDERS + 1)]
        _announce(report, base, program.pid, peers[:_HOLDERS], files)
        report.note(f"wrk with {CONNECTIONS} connections; others have {_SWARMS} swarms of {_HOLDERS} peers each")
        contestants = _ours(bench, report, base, peers, files) | _others(bench, report, stack)
        interleave(report, contestants, bench.round_count(5))
        _beside_slow_clients(report, program, peers[0], _ping(peers[0], files))
    _verdicts(report, [label for label in contestants if label.endswith("announces")])
    _live_peers(bench, report, live)
    return report


@contextmanager
def _started(folder: Path, **keys: object) -> Iterator[Program]:
    folder.mkdir(exist_ok=True)
    values = {"SERVER_URL": "127.0.0.1", "SERVER_PORT": 0, "STATE_DIR": folder / "state", **keys}
    program = Program("tracker", SERVER, [write_env(folder / ".env_server", values)], folder / "log")
    program.start()
    try:
        yield program
    finally:
        program.stop(grace=5)


def _url(program: Program) -> str:
    return f"http://127.0.0.1:{program.port}"


def _login(base: str, number: int) -> dict[str, Any]:
    body = {"username": f"user{number}", "password": "correct horse", "url": f"127.0.0.1:{5000 + number}"}
    opened: dict[str, Any] = requests.post(f"{base}/login", json=body, timeout=60).json()
    return opened


def _bearer(peer: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {peer['token']}", "Content-Type": "application/json"}


def _ping(holder: dict[str, Any], files: int) -> dict[str, Any]:
    load = {"uploads": 1, "free_bytes": 10**9, "rate": 1.5}
    return {"epoch": holder["epoch"], "index_version": str(files // _BATCH - 1), "load": load}


def _name(number: int | str) -> str:
    return f"project/data/file-{number}.bin"


def _announce(report: Report, base: str, pid: int, holders: list[dict[str, Any]], files: int) -> None:
    """Fill the index as peers do: the first part of the list, then changes."""
    batches = []
    for start in range(0, files, _BATCH):
        some = [
            {"name": _name(n), "id": f"{n * 2654435761 % 2**256:064x}", "size": n, "complete": True}
            for n in range(start, start + _BATCH)
        ]
        number = start // _BATCH
        change = {"base_version": str(number - 1), "version": str(number), "add": some}
        batches.append(json.dumps(change if number else {"version": "0", "files": some}))
    before, began = resident_memory(pid), time.monotonic()
    with requests.Session() as session:
        for holder in holders:
            for number, batch in enumerate(batches):
                method = "PATCH" if number else "PUT"
                answer = session.request(method, f"{base}/index", data=batch, headers=_bearer(holder), timeout=60)
                answer.raise_for_status()
    entries = files * len(holders)
    rate, size = entries / (time.monotonic() - began), (resident_memory(pid) - before) / entries
    report.verdict(f"files announced in batches of {_BATCH}: {rate:.0f} a second", rate, at_least=200_000)
    report.verdict(f"memory: {size:.0f} bytes for each of {entries} entries", size, at_most=500)


def _ours(bench: Bench, report: Report, base: str, peers: list[dict[str, Any]], files: int) -> dict[str, Contestant]:
    holder, asker = peers[0], peers[_HOLDERS]
    found = requests.get(f"{base}/query", params={"name": _name(files - 1)}, headers=_bearer(asker), timeout=10).json()
    if [len(version["holders"]) for version in found["files"]] != [_HOLDERS]:
        raise RuntimeError(f"not {_HOLDERS} holders: {found}")
    ping = f"{_lua_headers(holder)}wrk.method = 'PUT'\nwrk.body = '{json.dumps(_ping(holder, files))}'\n"
    # Multiples of a prime visit all files in a scattered order.
    query = _lua_headers(asker) + _lua_requests(f"/query?name={_name('%d')}", f"n * 7919 % {files}")
    return {
        "pings": _contestant(bench, report, "pings", f"{base}/ping", ping),
        "queries": _contestant(bench, report, "queries", base, query),
    }


def _others(bench: Bench, report: Report, stack: ExitStack) -> dict[str, Contestant]:
    announce = (
        f"/announce?info_hash={rival_trackers.LUA_INFO_HASH}&peer_id=-XX0001-%012d&port=%d"
        f"&uploaded=0&downloaded=0&left=0&compact=1&numwant={_HOLDERS}"
    )
    # One peer of each swarm, then the next peer of each.
    peer = f"math.floor(n / {_SWARMS}) % {_HOLDERS}"
    script = _lua_requests(announce, f"n % {_SWARMS}, {peer}, 5000 + {peer}")
    contestants: dict[str, Contestant] = {}
    for name, running in (
        ("bittorrent-tracker", rival_trackers.bittorrent_tracker(bench.folder)),
        ("opentracker", rival_trackers.opentracker(bench.folder, _SWARMS)),
    ):
        try:
            label = f"{name} announces"
            contestants[label] = _contestant(bench, report, label, stack.enter_context(running), script)
        except NotAvailable as lack:
            report.note(f"{name} is skipped: {lack}")
    return contestants


def _contestant(bench: Bench, report: Report, label: str, url: str, lua: str) -> Contestant:
    script = bench.folder / f"{label}.lua"
    script.write_text(lua)
    kept = wrk(url, script, 1).kept
    report.note(f"{label}: {'keeps connections open' if kept else 'closes each connection after one response'}")

    def run() -> dict[str, float]:
        load = wrk(url, script, bench.size(5, 2))
        return {label: load.rate, f"{label}, p99 ms": load.p99}

    return run


def _lua_headers(peer: dict[str, Any]) -> str:
    return "".join(f"wrk.headers['{name}'] = '{value}'\n" for name, value in _bearer(peer).items())


def _lua_requests(path: str, numbers: str) -> str:
    made = f'wrk.format("GET", string.format("{path}", {numbers}))'
    return f"local n = 0\nrequest = function()\n  n = n + 1\n  return {made}\nend\n"


def _beside_slow_clients(report: Report, program: Program, holder: dict[str, Any], body: dict[str, Any]) -> None:
    def ping() -> None:
        answer = requests.put(f"{_url(program)}/ping", json=body, headers=_bearer(holder), timeout=10)
        answer.raise_for_status()

    with slow_clients(program.port, _SLOW):
        worst = slowest_milliseconds(ping, _SLOW_SECONDS)
    report.verdict(f"the slowest ping beside {_SLOW} clients of a byte a second: {worst:.0f} ms", worst, at_most=1000)


def _verdicts(report: Report, others: list[str]) -> None:
    for label, target in (("pings", 4000), ("queries", 3000)):
        rate = report.median(label)
        report.verdict(f"{label}: {rate:.0f} a second", rate, at_least=target)
    late = report.median("pings, p99 ms")
    report.verdict(f"99 of 100 of these pings within {late:.1f} ms", late, at_most=20)
    for other in others:
        for label in ("pings", "queries"):
            report.ratio(label, other)


def _live_peers(bench: Bench, report: Report, count: int) -> None:
    """Measure peers without files that ping at the tracker's interval."""
    interval, rounds = float(ours.PING_INTERVAL), bench.size(4, 1)
    folder = bench.folder / "live"
    folder.mkdir()
    tokens = make_sessions(folder / "state", count)
    with _started(folder) as program:
        began = time.monotonic()
        took = ping_all(program.port, tokens, interval, rounds)
        rate = len(took) / (time.monotonic() - began)
        figures = requests.get(f"{_url(program)}/metrics", timeout=10).text
    alive, expired = (_metric(figures, name) for name in ("tracker_peers", 'tracker_events_total{event="expired"}'))
    report.note(f"{len(took)} pings, one of each peer in {interval:.0f} s, over {PING_CONNECTIONS} connections")
    report.verdict(f"peers alive after {interval * rounds:.0f} s of that: {alive:.0f}", alive, at_least=count)
    report.verdict(f"expired peers: {expired:.0f}", expired, at_most=0)
    # Peers with ever later pings are also online, for a while.
    report.verdict(f"their pings: {rate:.0f} a second", rate, at_least=0.98 * count / interval)
    parts = quantiles(took, n=100)
    report.verdict(f"their pings: median {parts[49]:.1f} ms, 99 of 100 within {parts[98]:.1f} ms", parts[98])


def _metric(figures: str, name: str) -> float:
    [value] = re.findall(rf"^{re.escape(name)} (\S+)$", figures, re.MULTILINE)
    return float(value)
