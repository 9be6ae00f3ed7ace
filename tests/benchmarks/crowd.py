"""Eight peers want one file at once from one holder behind a slow link: network namespaces on a bridge.

The holder's link carries 100 Mbit/s of Ethernet frames: 1,448 bytes of payload in 1,514. That, and the file leaving the
holder once, is the bound for the last of the crowd.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import MIB, Bench, emptied
from benchmarks.processes import cpu_seconds
from benchmarks.report import Report, interleave
from programs import PSERVER, SERVER, Program, write_env

_NAME = "wanted.bin"
_PEERS = 8
_LINK = 100e6 / 8 * 1448 / 1514
_NET = "10.77.0"
_DRIVER = Path(__file__).resolve().with_name("driver.py")


def crowd(bench: Bench) -> Report:
    """Time until the last of the crowd has the file."""
    size = bench.size(100 * MIB, 30 * MIB)
    bound = size / _LINK
    report = Report(
        "crowd", f"{_PEERS} peers want {size // MIB} MiB at once; the holder's link has 100 Mbit/s; seconds"
    )
    report.note(f"the bound, size / link: {bound:.2f} s ({size * 8 / 100e6:.2f} s without the frames' own bytes)")
    source = bench.file(bench.folder / "source" / _NAME, size)
    with ExitStack() as stack:
        hosts = stack.enter_context(_network(_PEERS + 1))
        mine = stack.enter_context(_ours(bench, hosts, source))
        torrent = stack.enter_context(_libtorrent(bench, hosts, source))
        interleave(report, {"ours": mine.run, "libtorrent": torrent.run}, bench.times(5), warm_up=False)
        report.note(f"when each of ours was done, last run: {', '.join(f'{t:.1f}' for t in mine.last)}")
    report.verdict(
        f"time, ours / bound: {report.median('ours') / bound:.2f}", report.median("ours") / bound, at_most=1.25
    )
    report.ratio("ours", "libtorrent", at_most=1.0, title="time, ours / libtorrent")
    report.note(f"libtorrent / bound: {report.median('libtorrent') / bound:.2f}")
    return report


class _Host:
    """A network namespace; number 0 is the slow holder's."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.inside = ["ip", "netns", "exec", name]


class _HostProgram(Program):
    """A program inside a host."""

    def __init__(self, host: _Host, name: str, script: Path, env: Path, log: Path) -> None:
        super().__init__(name, script, [env], log)
        self._command = [*host.inside, *self._command]


class _Meter:
    """What a run cost besides time: how often the holder sent the file over its link, and CPU seconds."""

    def __init__(self, holder: _Host, size: int, pids: list[int]) -> None:
        self._holder = holder
        self._size = size
        self._pids = pids
        self._sent = self._bytes()
        self._cpu = cpu_seconds(pids)

    def read(self, label: str) -> dict[str, float]:
        """The figures since it was made."""
        sent = (self._bytes() - self._sent) * 1448 / 1514 / self._size
        return {f"{label}, files sent": sent, f"{label}, CPU": cpu_seconds(self._pids) - self._cpu}

    def _bytes(self) -> int:
        command = ["ip", "netns", "exec", self._holder.name, "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def _network(count: int) -> Iterator[list[_Host]]:
    """Hosts on a bridge; the bridge is a host of its own, the last. The machine's own network is left alone."""
    if os.geteuid() != 0:
        raise rivals.Missing("needs root, for network namespaces")
    rivals.need(ip="iproute2", tc="iproute2")
    mark = f"p2p{os.getpid()}"
    bridge = _Host(f"{mark}-hub", f"{_NET}.100")
    hosts = [_Host(f"{mark}-{n}", f"{_NET}.{n + 1}") for n in range(count)]
    made: list[_Host] = []
    try:
        for host in [bridge, *hosts]:
            _ip("netns", "add", host.name)
            made.append(host)
            _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", bridge.name, "link", "add", "hub", "type", "bridge")
        _ip("-n", bridge.name, "addr", "add", f"{bridge.address}/24", "dev", "hub")
        _ip("-n", bridge.name, "link", "set", "hub", "up")
        for n, host in enumerate(hosts):
            _ip(
                "-n", bridge.name, "link", "add", f"port{n}", "type", "veth", "peer", "name", "eth0", "netns", host.name
            )
            _ip("-n", bridge.name, "link", "set", f"port{n}", "master", "hub", "up")
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        tbf = "qdisc add dev eth0 root tbf rate 100mbit burst 64kb latency 50ms"
        subprocess.run(["tc", "-n", hosts[0].name, *tbf.split()], check=True)
        yield [*hosts, bridge]
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.name], check=False)


class _Ours:
    """Our crowd: a tracker at the hub, the holder, the peers, each with a driver that holds a line to its pserver."""

    def __init__(self, holder: _Host, size: int, pids: list[int], drivers: list[rivals.Talker]) -> None:
        self._holder = holder
        self._size = size
        self._pids = pids
        self._drivers = drivers
        self.last: list[float] = []

    def run(self) -> dict[str, float]:
        """All order at once; the last one's time counts."""
        os.sync()
        meter = _Meter(self._holder, self._size, self._pids)
        for driver in self._drivers:
            driver.tell(download=_NAME)
        times = [driver.hear() for driver in self._drivers]
        figures = meter.read("ours")
        began = min(each["began"] for each in times)
        self.last = sorted(each["ended"] - began for each in times)
        for driver in self._drivers:
            driver.ask(remove=_NAME)
        os.sync()
        return {"ours": self.last[-1], **figures}


@contextmanager
def _ours(bench: Bench, hosts: list[_Host], source: Path) -> Iterator[_Ours]:
    [*peers, hub] = hosts
    folder = bench.folder / "ours"
    with ExitStack() as stack:

        def start(host: _Host, name: str, script: Path, **keys: object) -> Program:
            env = write_env(folder / f".env_{name}", keys)
            program = _HostProgram(host, name, script, env, folder / f"{name}.log")
            stack.callback(program.stop)
            program.start()
            return program

        folder.mkdir()
        tracker = start(hub, "tracker", SERVER, SERVER_URL=hub.address, SERVER_PORT=0, STATE_DIR=folder / "tracker")
        drivers: list[rivals.Talker] = []
        pids: list[int] = []
        for n, host in enumerate(peers):
            home = folder / f"p{n}"
            program = start(
                host,
                f"p{n}",
                PSERVER,
                PSERVER_URL=host.address,
                # Every address: other peers come over the bridge, the driver over loopback.
                PSERVER_LOCAL_URL="0.0.0.0",
                PSERVER_PORT=0,
                SERVER_URL=hub.address,
                SERVER_PORT=tracker.port,
                SHARED_DIR=home / "shared",
                STATE_DIR=home / "state",
                PING_INTERVAL=ours.PING_INTERVAL,
            )
            pids.append(program.pid)
            driver = rivals.Talker([*host.inside, sys.executable, _DRIVER, f"127.0.0.1:{program.port}", home / "state"])
            stack.callback(driver.close)
            driver.ask(login=f"p{n}")
            drivers.append(driver)
        os.link(source, folder / "p0" / "shared" / _NAME)
        drivers[0].ask(share=str(folder / "p0" / "shared" / _NAME))
        yield _Ours(peers[0], source.stat().st_size, pids, drivers[1:])


class _Libtorrent:
    """The same with libtorrent: every peer is told the addresses of all, so that it need not look for them."""

    def __init__(self, bench: Bench, hosts: list[_Host], source: Path, seeder: rivals.Talker, port: int) -> None:
        self._bench = bench
        [self._holder, *self._peers] = hosts
        self._source = source
        self._seeder = seeder
        self._port = port

    def run(self) -> dict[str, float]:
        """All begin at once; the last one's time counts."""
        with ExitStack() as stack:
            fetchers = []
            folders = []
            for host in self._peers:
                folder = emptied(self._bench.folder / "libtorrent" / host.name)
                folders.append(folder)
                fetcher = rivals.torrent(folder, host.address, *host.inside)
                stack.callback(fetcher.close)
                fetchers.append(fetcher)
            ports = [fetcher.ask()["port"] for fetcher in fetchers]
            known = [
                (self._holder.address, self._port),
                *((host.address, port) for host, port in zip(self._peers, ports, strict=True)),
            ]
            os.sync()
            meter = _Meter(self._holder, self._source.stat().st_size, [each.pid for each in (self._seeder, *fetchers)])
            for n, fetcher in enumerate(fetchers):
                fetcher.tell(
                    fetch=f"{self._source}.torrent", peers=[peer for m, peer in enumerate(known) if m != n + 1]
                )
            times = [fetcher.hear() for fetcher in fetchers]
            figures = meter.read("libtorrent")
        for folder in folders:
            emptied(folder)
        took = max(each["ended"] for each in times) - min(each["began"] for each in times)
        return {"libtorrent": took, **figures}


@contextmanager
def _libtorrent(bench: Bench, hosts: list[_Host], source: Path) -> Iterator[_Libtorrent]:
    [holder, *peers, _] = hosts
    seeder = rivals.torrent(source.parent, holder.address, *holder.inside)
    try:
        seeder.ask(make=str(source))
        port = seeder.ask(seed=f"{source}.torrent")["port"]
        yield _Libtorrent(bench, [holder, *peers], source, seeder, port)
    finally:
        seeder.close()
