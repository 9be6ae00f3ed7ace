"""One large file from one holder: speed (`single`, `tls`) and CPU time (`cpu`), against curl, cp and libtorrent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import ours, rivals
from benchmarks.bench import MIB, Bench, empty_folder, prepare_run
from benchmarks.processes import Sample, children, cpu_seconds, fsync_file, run
from benchmarks.report import Report, interleave
from system.certificates import Certificates

Run = Callable[[], Sample]
_NAME = "big.bin"


def single(bench: Bench) -> Report:
    """Measure the speed of one verified, durable file."""
    size = bench.size(1024 * MIB, 64 * MIB)
    report = Report("single", f"{size // MIB} MiB, one holder, loopback, verified, fsynced; seconds")
    with ExitStack() as stack:
        source = bench.file(bench.folder / "source" / _NAME, size)
        mine, command = stack.enter_context(_ours(bench, source))
        curl = stack.enter_context(_curl(bench, source))
        torrent = stack.enter_context(_libtorrent(bench, source))
        interleave(
            report,
            {
                "ours": lambda: {"ours": mine().seconds},
                "curl": lambda: {"curl": curl().seconds},
                "cp": lambda: {"cp": _cp(bench, source).seconds},
                "libtorrent": lambda: {"libtorrent": torrent().seconds},
            },
            bench.round_count(7),
        )
        whole, own = command()
        report.note(f"as a command: {whole:.2f} s from start to exit of pclient, {own:.2f} s according to its --json")
    report.note(
        "MiB/s: " + ", ".join(f"{n} {size / MIB / report.median(n):.0f}" for n in ("ours", "curl", "cp", "libtorrent"))
    )
    report.ratio("curl", "ours", at_least=1.0, title="speed, ours / curl from nginx + fsync")
    report.ratio("cp", "ours", at_least=1.0, title="speed, ours / cp + fsync")
    report.ratio("libtorrent", "ours", at_least=3.5, title="speed, ours / libtorrent + fsync")
    return report


def tls(bench: Bench) -> Report:
    """Measure the same over TLS."""
    size = bench.size(1024 * MIB, 64 * MIB)
    report = Report("tls", f"{size // MIB} MiB, one holder, TLS, verified, fsynced; seconds")
    with ExitStack() as stack:
        source = bench.file(bench.folder / "source" / _NAME, size)
        folder = bench.folder / "certificates"
        folder.mkdir()
        certificates = Certificates.make(folder)
        mine, _ = stack.enter_context(_ours(bench, source, certificates))
        curl = stack.enter_context(_curl(bench, source, certificates))
        interleave(
            report,
            {"ours": lambda: {"ours": mine().seconds}, "curl": lambda: {"curl": curl().seconds}},
            bench.round_count(7),
        )
    report.ratio("curl", "ours", at_least=0.8, title="speed, ours / curl from nginx over https + fsync")
    return report


def cpu(bench: Bench) -> Report:
    """Measure the CPU time of both sides."""
    size = bench.size(1024 * MIB, 64 * MIB)
    report = Report("cpu", f"CPU seconds per GiB, both sides ({size // MIB} MiB, one holder, loopback)")
    gib = size / (1024 * MIB)
    with ExitStack() as stack:
        rivals.require_programs(b3sum="b3sum")
        source = bench.file(bench.folder / "source" / _NAME, size)
        mine, _ = stack.enter_context(_ours(bench, source))
        curl = stack.enter_context(_curl(bench, source, verify=True))
        interleave(
            report,
            {
                "ours": lambda: {"ours": mine().cpu / gib},
                "curl": lambda: {"curl + nginx + b3sum": curl().cpu / gib},
            },
            bench.round_count(7),
        )
    report.ratio("ours", "curl + nginx + b3sum", at_most=1.5, title="CPU, ours / curl + nginx + b3sum")
    return report


@contextmanager
def _ours(
    bench: Bench, source: Path, certificates: Certificates | None = None
) -> Iterator[tuple[Run, Callable[[], tuple[float, float]]]]:
    """Yield a run over an open connection, and one with pclient: its seconds in all, and those that it reports."""
    with ours.cluster(bench, certificates) as cluster:
        ana = cluster.peer("ana", PING_INTERVAL=ours.PING_INTERVAL)
        ben = cluster.peer("ben", PING_INTERVAL=ours.PING_INTERVAL)
        os.link(source, ana.shared / _NAME)
        ours.connect(ana, certificates).share(ana.shared / _NAME)
        client = ours.connect(ben, certificates)

        def clean() -> None:
            client.remove(_NAME)
            os.sync()

        def transfer() -> Sample:
            prepare_run(bench.folder, source.stat().st_size)
            sample = ours.timed_download(client, [ana, ben], _NAME)
            clean()
            return sample

        def command() -> tuple[float, float]:
            prepare_run(bench.folder, source.stat().st_size)
            began = time.monotonic()
            result = ben.pclient("download", _NAME).one
            whole = time.monotonic() - began
            clean()
            return whole, float(result["seconds"])

        yield transfer, command


@contextmanager
def _curl(bench: Bench, source: Path, certificates: Certificates | None = None, verify: bool = False) -> Iterator[Run]:
    target = bench.folder / "curl" / _NAME
    files = (certificates.certificate, certificates.key) if certificates else (None, None)
    trust = ["--cacert", str(certificates.authority)] if certificates else []
    with rivals.nginx(bench.folder / "nginx", source.parent, *files) as (url, nginx):

        def transfer() -> Sample:
            empty_folder(target.parent)
            prepare_run(bench.folder, source.stat().st_size)
            before = cpu_seconds([nginx, *children(nginx)])
            sample = run(["curl", "-sf", *trust, "-o", target, f"{url}/{_NAME}"]).plus(fsync_file(target))
            sample = sample.plus(Sample(0, cpu_seconds([nginx, *children(nginx)]) - before))
            if verify:
                sample = sample.plus(run(["b3sum", target]))
            empty_folder(target.parent)
            return sample

        yield transfer


def _cp(bench: Bench, source: Path) -> Sample:
    target = empty_folder(bench.folder / "cp") / _NAME
    prepare_run(bench.folder, source.stat().st_size)
    sample = run(["cp", source, target]).plus(fsync_file(target))
    empty_folder(target.parent)
    return sample


@contextmanager
def _libtorrent(bench: Bench, source: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        seeder = rivals.torrent(source.parent, "127.0.0.1")
        stack.callback(seeder.close)
        seeder.request(make=str(source))
        port = seeder.request(seed=f"{source}.torrent")["port"]

        def transfer() -> Sample:
            folder = empty_folder(bench.folder / "libtorrent")
            fetcher = rivals.torrent(folder, "127.0.0.1")
            fetcher.request()
            prepare_run(bench.folder, source.stat().st_size)
            done = fetcher.request(fetch=f"{source}.torrent", peers=[["127.0.0.1", port]])
            fetcher.close()
            empty_folder(folder)
            return Sample(done["ended"] - done["began"])

        yield transfer
