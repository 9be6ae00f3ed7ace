"""Swarms of simulated peers: few duplicates, no idle holder, and a time close to the lower bound."""

import pytest

from swarm_simulation import PIECE, Peer, Simulation

MBIT_100 = 12.5e6
FAST = 125e6


def bound(pieces: int, rate: float) -> float:
    """Seconds in which a seeder sends the file once: the lower bound of all downloads."""
    return pieces * PIECE / rate


def duplicates(simulation: Simulation) -> float:
    """The share of pieces that were received twice."""
    fetched = simulation.fetched()
    return fetched.total() / (len(fetched) * simulation.pieces) - 1


def swarm(seed: int, peers: int, pieces: int, rate: float = FAST, every: float = 0.0) -> tuple[Simulation, list[Peer]]:
    """One seeder at 100 Mbit/s and many downloaders."""
    print(f"seed {seed}")
    simulation = Simulation(pieces, seed)
    simulation.seeder(MBIT_100)
    return simulation, [simulation.downloader(rate, at=number * every) for number in range(peers)]


@pytest.mark.parametrize("seed", range(4))
def test_8_downloads_take_hardly_longer_than_sending_the_file_once(seed: int) -> None:
    simulation, _ = swarm(seed, 8, 100)
    assert simulation.run() < 1.05 * bound(100, MBIT_100)
    assert duplicates(simulation) < 0.02
    assert simulation.peers[0].sent < 1.05 * 100 * PIECE


@pytest.mark.parametrize("seed", range(2))
def test_downloaders_as_slow_as_the_seeder_finish_in_time(seed: int) -> None:
    simulation, _ = swarm(seed, 8, 100, rate=MBIT_100)
    assert simulation.run() < 1.15 * bound(100, MBIT_100)
    assert duplicates(simulation) < 0.05


def test_30_downloads_that_start_one_after_another_finish_in_time() -> None:
    simulation, peers = swarm(7, 30, 100, every=0.05)
    assert simulation.run() < 1.15 * bound(100, MBIT_100)
    assert duplicates(simulation) < 0.05
    assert all(peer.complete for peer in peers)


def test_downloads_finish_although_a_third_of_the_peers_leaves() -> None:
    simulation, peers = swarm(8, 24, 100, rate=FAST / 2)
    for peer in peers[::3]:
        simulation.at(4.0, lambda peer=peer: simulation.leave(peer))  # type: ignore[misc]
    assert simulation.run() < 1.35 * bound(100, MBIT_100)
    assert all(peer.complete for peer in peers if not peer.gone)


def test_downloads_finish_although_a_third_of_the_peers_freezes() -> None:
    simulation, peers = swarm(9, 24, 100, rate=FAST / 2)
    for peer in peers[::3]:
        simulation.at(4.0, lambda peer=peer: simulation.freeze(peer))  # type: ignore[misc]
    # Noticed after 5 s of silence; peers without a request at that time are noticed in a second round.
    assert simulation.run() < bound(100, MBIT_100) + 12
    assert all(peer.complete for peer in peers if not peer.frozen)


def test_late_downloads_get_their_pieces_from_the_swarm() -> None:
    simulation, peers = swarm(10, 16, 100, every=2.0)
    simulation.run()
    assert all((peer.done or 1e9) - peer.joined < 0.2 * bound(100, MBIT_100) for peer in peers[6:])
    assert simulation.peers[0].sent < 1.5 * 100 * PIECE


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        ([50e6] * 3, 1.1),
        ([50e6, *[20e3] * 4], 1.15),
        ([50e6, *[100e3] * 8], 1.15),
        ([10e6, 5e6, 1e6, 1e6, 100e3], 1.25),
        ([40e6, 1e6, 1e6], 1.15),
        ([5e6] * 24, 1.25),
        ([30e3], 1.05),
    ],
    ids=["three", "four drip", "eight crawl", "mixed", "one fast", "many", "one slow"],
)
def test_one_download_uses_the_rates_of_all_holders_together(rates: list[float], limit: float) -> None:
    pieces = 4 if max(rates) < 1e5 else 200
    simulation = Simulation(pieces, seed=11)
    for rate in rates:
        simulation.seeder(rate)
    simulation.downloader(FAST)
    assert simulation.run() < limit * bound(pieces, sum(rates))
    assert duplicates(simulation) < 0.1


def test_no_holder_is_idle_while_it_could_help() -> None:
    simulation = Simulation(300, seed=12)
    holders = [simulation.seeder(rate) for rate in (20e6, 20e6, 5e6, 1e6)]
    simulation.downloader(FAST)
    end = simulation.run()
    for holder in holders:
        assert holder.sent > 0.5 * holder.rate * end


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_peers_finish_in_time(seed: int) -> None:
    simulation, peers = swarm(seed, 200, 400, rate=FAST / 2, every=0.01)
    for peer in peers[::7]:
        simulation.at(8.0, lambda peer=peer: simulation.leave(peer))  # type: ignore[misc]
    assert simulation.run() < 1.6 * bound(400, MBIT_100)
    assert all(peer.complete for peer in peers if not peer.gone)
    assert duplicates(simulation) < 0.15
