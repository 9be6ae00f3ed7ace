"""A holder that freezes during a simulated download costs a few seconds, with any number of requests to it."""

import random

import pytest

from daemon.swarm.piece_picker import SOURCE_IDLE_TIMEOUT, Picker
from daemon.swarm.source import SourceStatus

MIB = 1 << 20
PIECES = 16
TICK = 0.05


@pytest.mark.parametrize("seed", range(300))
def test_the_other_holder_finishes_the_download(seed: int) -> None:
    rng = random.Random(seed)
    picker = Picker(PIECES, [], lambda piece: MIB, choose=rng.randrange)
    for name in ("good", "silent"):
        picker.add_source(name, 0.0)
        picker.set_pieces(name, (1 << PIECES) - 1, complete=True)
    queues: dict[str, list[int]] = {"good": [], "silent": []}
    lengths = {"good": MIB, "silent": MIB}
    sent = {"good": 0, "silent": 0}
    # Bytes in a tick: from 1 to 10 MiB a second.
    slow = int(rng.uniform(1, 10) * MIB * TICK)
    freezes = rng.uniform(0.1, 0.8) * PIECES * MIB / (4 * slow / TICK)
    missing = 0
    now = 0.0
    while not picker.complete:
        now += TICK
        missing = missing or (picker.missing_count if now >= freezes else 0)
        assert now < freezes + SOURCE_IDLE_TIMEOUT + missing * MIB / (slow / TICK) + 1
        # Before it froze it was the faster one.
        for name, speed in (("good", slow), ("silent", 3 * slow if now < freezes else 0)):
            left = speed
            while left and queues[name]:
                block = min(left, MIB - sent[name])
                left -= block
                before, sent[name] = sent[name], sent[name] + block
                # Data arrives in complete blocks.
                blocks = (sent[name] // lengths[name] - before // lengths[name]) * lengths[name]
                if blocks:
                    picker.on_data(name, blocks, now)
                if sent[name] == MIB:
                    sent[name] = 0
                    piece = queues[name].pop(0)
                    for holder, other in picker.on_verified(name, piece, now) if picker.is_missing(piece) else []:
                        cancel(queues[holder], other, started=sent[holder] > 0)
        for holder, piece in picker.reassign_stalled(now):
            cancel(queues[holder], piece, started=sent[holder] > 0)
        while not picker.complete and (each := picker.pick(now)) is not None:
            queues[each.source].append(each.piece)
            if not sent[each.source]:
                lengths[each.source] = each.block_length
            if each.replaces:
                cancel(queues[each.replaces], each.piece, started=sent[each.replaces] > 0)
    assert picker.state("good") is SourceStatus.ACTIVE


def cancel(queue: list[int], piece: int, *, started: bool) -> None:
    """Cancel a request; a started piece arrives all the same."""
    if piece in queue[started:]:
        queue.remove(piece)
