"""A holder that falls silent in the middle of a simulated download costs a few seconds, however it is asked."""

import random

import pytest

from daemon.swarm.piece_picker import SILENCE, Picker
from daemon.swarm.source import State

MIB = 1 << 20
PIECES = 16
TICK = 0.05


@pytest.mark.parametrize("seed", range(300))
def test_the_other_holder_ends_the_download(seed: int) -> None:
    rng = random.Random(seed)
    picker = Picker(PIECES, [], lambda piece: MIB, choose=rng.randrange)
    for name in ("good", "silent"):
        picker.add(name, 0.0)
        picker.has(name, (1 << PIECES) - 1, whole=True)
    queues: dict[str, list[int]] = {"good": [], "silent": []}
    lengths = {"good": MIB, "silent": MIB}
    sent = {"good": 0, "silent": 0}
    # Bytes in a tick: from 1 to 10 MiB a second.
    slow = int(rng.uniform(1, 10) * MIB * TICK)
    freezes = rng.uniform(0.1, 0.8) * PIECES * MIB / (4 * slow / TICK)
    missing = 0
    now = 0.0
    while not picker.done:
        now += TICK
        missing = missing or (picker.missing if now >= freezes else 0)
        assert now < freezes + SILENCE + missing * MIB / (slow / TICK) + 1
        # Before it froze it was the faster one.
        for name, speed in (("good", slow), ("silent", 3 * slow if now < freezes else 0)):
            left = speed
            while left and queues[name]:
                block = min(left, MIB - sent[name])
                left -= block
                before, sent[name] = sent[name], sent[name] + block
                # It is heard of by whole blocks.
                blocks = (sent[name] // lengths[name] - before // lengths[name]) * lengths[name]
                if blocks:
                    picker.heard(name, blocks, now)
                if sent[name] == MIB:
                    sent[name] = 0
                    piece = queues[name].pop(0)
                    for holder, other in picker.arrived(name, piece, now) if picker.is_missing(piece) else []:
                        cancel(queues[holder], other, begun=sent[holder] > 0)
        for holder, piece in picker.overdue(now):
            cancel(queues[holder], piece, begun=sent[holder] > 0)
        while not picker.done and (ask := picker.next(now)) is not None:
            queues[ask.holder].append(ask.piece)
            if not sent[ask.holder]:
                lengths[ask.holder] = ask.block_length
            if ask.instead_of:
                cancel(queues[ask.instead_of], ask.piece, begun=sent[ask.instead_of] > 0)
    assert picker.state("good") is State.ACTIVE


def cancel(queue: list[int], piece: int, *, begun: bool) -> None:
    """What is on its way comes all the same."""
    if piece in queue[begun:]:
        queue.remove(piece)
