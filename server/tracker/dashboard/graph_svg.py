"""Geometry of the network graph: peers on a ring, an arrow from sender to receiver. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tracker.dashboard.activity import TransferEdge

SIZE = 480
_CENTRE = SIZE / 2
# With more peers than this, labels stand along the spokes instead of beside the dots.
MAX_LEVEL_LABELS = 14
# With at most this number of peers, dots are large and have a second line of label.
MAX_LARGE_DOTS = 6
_PAIR_RADIUS, _LEVEL_RADIUS, _SPOKE_RADIUS = 158.0, 124.0, 146.0
_MAX_LEVEL_LETTERS, _MAX_SPOKE_LETTERS = 11, 13

Point = tuple[float, float]


class Dot(NamedTuple):
    """A peer in the graph, in units of the SVG's view box.

    Attributes:
        anchor: text-anchor of the label.
        rotation: degrees of the label; 0 for a level one.
    """

    address: str
    x: float
    y: float
    radius: float
    label: str
    label_x: float
    label_y: float
    anchor: str
    rotation: float
    files: int


class Arrow(NamedTuple):
    """Transfers from one peer to another.

    Attributes:
        path: SVG path of the curve.
        head: SVG points of the arrow head.
        age: `fresh`, `recent` or `old`.
    """

    source: str
    target: str
    path: str
    head: str
    width: float
    age: str
    transfers: int


def place_dots(peers: Sequence[tuple[str, str, int]], shorten: Callable[[str, int], str]) -> list[Dot]:
    """Return the dots of the peers, around the ring from the top; two peers face each other.

    Args:
        peers: address, label and number of files of each.
        shorten: returns a text cut to a number of letters.
    """
    level = len(peers) <= MAX_LEVEL_LABELS
    around = {1: 0.0, 2: _PAIR_RADIUS}.get(len(peers), _LEVEL_RADIUS if level else _SPOKE_RADIUS)
    few = len(peers) <= MAX_LARGE_DOTS
    largest = min(30.0 if few else 15.0, 0.36 * 2 * math.pi * (around or _CENTRE) / max(1, len(peers)))
    found = []
    for at, (url, label, files) in enumerate(peers):
        angle = 2 * math.pi * at / len(peers) + (math.pi if len(peers) == 2 else -math.pi / 2)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = _CENTRE + around * cos, _CENTRE + around * sin
        r = min(largest, (9 if few else 5) + (2.3 if few else 1.6) * math.log2(1 + files))
        if level:
            found.append(
                _dot_with_level_label(url, shorten(label, _MAX_LEVEL_LETTERS), x, y, r, cos, sin, len(peers), files)
            )
        else:
            turn = math.degrees(angle)
            left = cos < -1e-9
            away = around + largest + 5
            spot = (_CENTRE + away * cos, _CENTRE + away * sin)
            anchor = "end" if left else "start"
            short = shorten(label, _MAX_SPOKE_LETTERS)
            found.append(Dot(url, x, y, r, short, *spot, anchor, (turn + 180 if left else turn) or 360.0, files))
    return found


def draw_arrows(edges: Sequence[TransferEdge], dots: Mapping[str, Dot]) -> list[Arrow]:
    """Return an arrow for each edge between two of `dots`; the newest last, so that it is drawn on top."""
    order = {"old": 0, "recent": 1, "fresh": 2}
    found = []
    for feed in sorted(edges, key=lambda feed: order[feed.age]):
        source, target = dots.get(feed.source), dots.get(feed.target)
        if source is None or target is None or source is target:
            continue
        width = min(5.0, 1.2 + 0.9 * math.log2(1 + feed.weight))
        path, head = _curve(source, target, width)
        found.append(Arrow(feed.source, feed.target, path, head, width, feed.age, feed.transfers))
    return found


def _dot_with_level_label(
    url: str, label: str, x: float, y: float, r: float, cos: float, sin: float, peers: int, files: int
) -> Dot:
    if peers <= 2 or abs(cos) < 0.3:
        above = sin < -0.3
        lift = 26 if peers <= MAX_LARGE_DOTS else 9
        return Dot(url, x, y, r, label, x, y - r - lift if above else y + r + 18, "middle", 0.0, files)
    side = 1 if cos > 0 else -1
    anchor, below = "start" if side > 0 else "end", -4 if peers <= MAX_LARGE_DOTS else 4.5
    return Dot(url, x, y, r, label, x + side * (r + 7), y + below, anchor, 0.0, files)


def _curve(source: Dot, target: Dot, width: float) -> tuple[str, str]:
    """Return path and head of an arrow.

    The curve bends to its left, so that both directions stay apart, and towards the centre, more so for a long one.
    """
    dx, dy = target.x - source.x, target.y - source.y
    length = math.hypot(dx, dy)
    pull = 0.15 + 0.35 * min(1.0, length / (2 * _LEVEL_RADIUS))
    middle = ((source.x + target.x) / 2, (source.y + target.y) / 2)
    bow = 0.16 if length > 60 else 0.3
    bend = (
        middle[0] * (1 - pull) + _CENTRE * pull + dy * bow,
        middle[1] * (1 - pull) + _CENTRE * pull - dx * bow,
    )
    head = 5 + width * 1.6
    start = _towards((source.x, source.y), bend, source.radius + 2)
    tip = _towards((target.x, target.y), bend, target.radius + 3)
    base = _towards(tip, bend, head)
    across = (-(base[1] - tip[1]) * 0.42, (base[0] - tip[0]) * 0.42)
    path = f"M{_pair(start)} Q{_pair(bend)} {_pair(_towards(tip, bend, head * 0.7))}"
    corners = (tip, (base[0] + across[0], base[1] + across[1]), (base[0] - across[0], base[1] - across[1]))
    return path, " ".join(_pair(corner) for corner in corners)


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
    return start[0] + (end[0] - start[0]) / length * distance, start[1] + (end[1] - start[1]) / length * distance


def _pair(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
