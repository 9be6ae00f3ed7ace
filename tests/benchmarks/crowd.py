"""Eight peers download one file at once from a holder behind a slow link, in network namespaces on a bridge.

The link carries 100 Mbit/s of Ethernet frames with 1,448 bytes of payload in 1,514. The bound for the last peer is the
time in which the file leaves the holder once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import MIB, Bench, empty_folder
from benchmarks.processes import cpu_seconds
from benchmarks.report import Report, interleave
from programs import PSERVER, SERVER, Program, write_env

_NAME = "wanted.bin"
_PEERS = 8
_LINK = 100e6 / 8 * 1448 / 1514
_NET = "10.77.0"
_DRIVER = Path(__file__).resolve().with_name("driver.py")


def crowd(bench: Bench) -> Report:
    """Measure the time until the last peer has the file."""
    size = bench.size(100 * MIB, 30 * MIB)
    bound = size / _LINK
    report = Report(
        "crowd", f"{_PEERS} peers download {size // MIB} MiB at once; the holder's link has 100 Mbit/s; seconds"
    )
    report.note(f"the bound, size / link: {bound:.2f} s ({size * 8 / 100e6:.2f} s without frame headers)")
    source = bench.file(bench.folder / "source" / _NAME, size)
    with ExitStack() as stack:
        hosts = stack.enter_context(_network(_PEERS + 1))
        mine = stack.enter_context(_ours(bench, hosts, source))
        torrent = stack.enter_context(_libtorrent(bench, hosts, source))
        interleave(report, {"ours": mine.run, "libtorrent": torrent.run}, bench.round_count(5), warm_up=False)
        report.note(f"completion of each of our peers, last run: {', '.join(f'{t:.1f}' for t in mine.last)}")
    report.verdict(
        f"time, ours / bound: {report.median('ours') / bound:.2f}", report.median("ours") / bound, at_most=1.25
    )
    report.ratio("ours", "libtorrent", at_most=1.0, title="time, ours / libtorrent")
    report.note(f"libtorrent / bound: {report.median('libtorrent') / bound:.2f}")
    return report


class _Host:
    """A network namespace; number 0 is that of the slow holder."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.inside = ["ip", "netns", "exec", name]


class _HostProgram(Program):
    """A program inside a host."""

    def __init__(self, host: _Host, name: str, script: Path, env: Path, log: Path) -> None:
        super().__init__(name, script, [env], log)
        self._host = host

    def _command(self) -> list[str]:
        return [*self._host.inside, *super()._command()]


class _Meter:
    """Counts how often the holder sends the file over its link, and CPU seconds."""

    def __init__(self, holder: _Host, size: int, pids: list[int]) -> None:
        self._holder = holder
        self._size = size
        self._pids = pids
        self._sent = self._bytes()
        self._cpu = cpu_seconds(pids)

    def read(self, label: str) -> dict[str, float]:
        """Return the figures since its creation."""
        sent = (self._bytes() - self._sent) * 1448 / 1514 / self._size
        return {f"{label}, files sent": sent, f"{label}, CPU": cpu_seconds(self._pids) - self._cpu}

    def _bytes(self) -> int:
        command = ["ip", "netns", "exec", self._holder.name, "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def _network(count: int) -> Iterator[list[_Host]]:
    """Yield hosts on a bridge, which is the last host. The network of the machine itself does not change."""
    if os.geteuid() != 0:
        raise rivals.NotAvailable("needs root, for network namespaces")
    rivals.require_programs(ip="iproute2", tc="iproute2")
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
    """Our programs: a tracker at the hub, and a pserver with an open connection to it on each host."""

    def __init__(self, holder: _Host, size: int, pids: list[int], drivers: list[rivals.JsonProcess]) -> None:
        self._holder = holder
        self._size = size
        self._pids = pids
        self._drivers = drivers
        self.last: list[float] = []

    def run(self) -> dict[str, float]:
        """Start all downloads at once; return the time of the last."""
        os.sync()
        meter = _Meter(self._holder, self._size, self._pids)
        for driver in self._drivers:
            driver.send(download=_NAME)
        times = [driver.receive() for driver in self._drivers]
        figures = meter.read("ours")
        began = min(each["began"] for each in times)
        self.last = sorted(each["ended"] - began for each in times)
        for driver in self._drivers:
            driver.request(remove=_NAME)
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
        drivers: list[rivals.JsonProcess] = []
        pids: list[int] = []
        for n, host in enumerate(peers):
            home = folder / f"p{n}"
            program = start(
                host,
                f"p{n}",
                PSERVER,
                PSERVER_URL=host.address,
                # Other peers connect over the bridge, the driver over loopback.
                PSERVER_LOCAL_URL="0.0.0.0",
                PSERVER_PORT=0,
                SERVER_URL=hub.address,
                SERVER_PORT=tracker.port,
                SHARED_DIR=home / "shared",
                STATE_DIR=home / "state",
                PING_INTERVAL=ours.PING_INTERVAL,
            )
            pids.append(program.pid)
            driver = rivals.JsonProcess(
                [*host.inside, sys.executable, _DRIVER, f"127.0.0.1:{program.port}", home / "state"]
            )
            stack.callback(driver.close)
            driver.request(login=f"p{n}")
            drivers.append(driver)
        os.link(source, folder / "p0" / "shared" / _NAME)
        drivers[0].request(share=str(folder / "p0" / "shared" / _NAME))
        yield _Ours(peers[0], source.stat().st_size, pids, drivers[1:])


class _Libtorrent:
    """The same with libtorrent. Every peer gets the addresses of all others, so it needs no discovery."""

    def __init__(self, bench: Bench, hosts: list[_Host], source: Path, seeder: rivals.JsonProcess, port: int) -> None:
        self._bench = bench
        [self._holder, *self._peers] = hosts
        self._source = source
        self._seeder = seeder
        self._port = port

    def run(self) -> dict[str, float]:
        """Start all downloads at once; return the time of the last."""
        with ExitStack() as stack:
            fetchers = []
            folders = []
            for host in self._peers:
                folder = empty_folder(self._bench.folder / "libtorrent" / host.name)
                folders.append(folder)
                fetcher = rivals.torrent(folder, host.address, *host.inside)
                stack.callback(fetcher.close)
                fetchers.append(fetcher)
            ports = [fetcher.request()["port"] for fetcher in fetchers]
            known = [
                (self._holder.address, self._port),
                *((host.address, port) for host, port in zip(self._peers, ports, strict=True)),
            ]
            os.sync()
            meter = _Meter(self._holder, self._source.stat().st_size, [each.pid for each in (self._seeder, *fetchers)])
            for n, fetcher in enumerate(fetchers):
                fetcher.send(
                    fetch=f"{self._source}.torrent", peers=[peer for m, peer in enumerate(known) if m != n + 1]
                )
            times = [fetcher.receive() for fetcher in fetchers]
            figures = meter.read("libtorrent")
        for folder in folders:
            empty_folder(folder)
        took = max(each["ended"] for each in times) - min(each["began"] for each in times)
        return {"libtorrent": took, **figures}


@contextmanager
def _libtorrent(bench: Bench, hosts: list[_Host], source: Path) -> Iterator[_Libtorrent]:
    [holder, *peers, _] = hosts
    seeder = rivals.torrent(source.parent, holder.address, *holder.inside)
    try:
        seeder.request(make=str(source))
        port = seeder.request(seed=f"{source}.torrent")["port"]
        yield _Libtorrent(bench, [holder, *peers], source, seeder, port)
    finally:
        seeder.close()
