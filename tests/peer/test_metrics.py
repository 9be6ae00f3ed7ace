"""Metrics of a pserver show what is counted, on this machine only, and without names."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from daemon.runtime.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def url(metrics: Metrics) -> Iterator[str]:
    port, stop = metrics.serve(0)
    yield f"http://127.0.0.1:{port}/metrics"
    stop()


def scraped(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_counters_are_shown(metrics: Metrics, url: str) -> None:
    metrics.count_received(1000)
    metrics.count_received(500)
    metrics.bytes_sent.inc(70)
    metrics.count_corrupt_piece()
    metrics.count_dropped_holder("silent")
    metrics.count_transfer("download", "done")

    shown = scraped(url)

    assert shown["p2p_received_bytes_total"] == 1500
    assert shown["p2p_pieces_verified_total"] == 2
    assert shown["p2p_sent_bytes_total"] == 70
    assert shown["p2p_pieces_refused_total"] == 1
    assert shown['p2p_holders_dropped_total{why="bad_piece"}'] == 1
    assert shown['p2p_holders_dropped_total{why="silent"}'] == 1
    assert shown['p2p_transfers_total{kind="download",outcome="done"}'] == 1


def test_a_gauge_is_read_at_each_scrape(metrics: Metrics, url: str) -> None:
    files = [3.0]
    metrics.add_gauge("p2p_shared_files", "Whole files", lambda: files[0])
    assert scraped(url)["p2p_shared_files"] == 3
    files[0] = 4
    assert scraped(url)["p2p_shared_files"] == 4


@pytest.mark.ipv6
def test_both_addresses_of_localhost_are_served(metrics: Metrics, url: str) -> None:
    assert scraped(url) == scraped(url.replace("127.0.0.1", "[::1]"))


def test_a_port_in_use_is_an_error(metrics: Metrics, url: str) -> None:
    port = urlsplit(url).port or 0
    with pytest.raises(OSError, match="in use"):
        Metrics().serve(port)


def test_two_pservers_in_one_process_count_separately(url: str) -> None:
    other = Metrics()
    other.count_received(1)
    assert scraped(url)["p2p_received_bytes_total"] == 0
