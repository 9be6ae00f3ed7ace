"""Tickets: what the tracker allows one pserver to ask of this one. Checked here without asking anybody.

A ticket is base64url, without padding, of
    version (1), right (1 read, 2 write), holder, asker (16 bytes each), id (32 bytes),
    issued, expires (8 bytes each, seconds of the tracker's clock), the asker's user name,
followed by HMAC-SHA256 of all that under the key that only the tracker and this login session know. There is no
algorithm to choose, and one encoding only: base64 that is not canonical would make variants of a ticket valid.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import struct
from typing import NamedTuple

from daemon.errors import NotAllowed

_PAYLOAD = struct.Struct(">BB16s16s32sQQ")
_CONTEXT = b"p2p-ticket-v1\0"
_MAC_LENGTH = 32
_USER_MAX = 64
_TEXT_MAX = (_PAYLOAD.size + _USER_MAX + _MAC_LENGTH) * 4 // 3 + 2

# Where a ticket travels in a call.
METADATA_KEY = "p2p-ticket"

# Seconds by which this peer's idea of the tracker's clock may be off: it learns it at each ping.
CLOCK_TOLERANCE = 30.0


class Right(enum.IntEnum):
    """What a ticket allows to do with its id."""

    READ = 1
    WRITE = 2


class Grant(NamedTuple):
    """What a valid ticket says."""

    id: str
    right: Right
    # peer_id of the session that asks, and its user.
    requester: str
    user: str


def check(ticket: str, *, key: bytes, holder: str, now: float) -> Grant:
    """Return what the ticket allows here.

    `key` and `holder` are the ticket key and peer_id of this login session, `now` is the tracker's time in seconds.

    Raises:
        NotAllowed: if it is forged, for another holder, expired, or anything else than the one text the tracker wrote.
    """
    raw = _decode(ticket)
    payload, mac = raw[:-_MAC_LENGTH], raw[-_MAC_LENGTH:]
    if len(payload) < _PAYLOAD.size or not hmac.compare_digest(
        mac, hmac.new(key, _CONTEXT + payload, hashlib.sha256).digest()
    ):
        raise NotAllowed("the ticket is not valid here: ask the tracker for a new one")
    version, right, ticket_holder, asker, id_, _issued, expires = _PAYLOAD.unpack_from(payload)
    if version != 1 or right not in (Right.READ, Right.WRITE) or ticket_holder.hex() != holder:
        raise NotAllowed("the ticket is not for this peer: ask the tracker for a new one")
    if now > expires + CLOCK_TOLERANCE:
        raise NotAllowed("the ticket has expired: ask the tracker for a new one")
    return Grant(id_.hex(), Right(right), asker.hex(), payload[_PAYLOAD.size :].decode("ascii", "replace"))


def require_right(grant: Grant, right: Right) -> None:
    """Raise NotAllowed unless the ticket gives this right."""
    if grant.right is not right:
        raise NotAllowed(f"the ticket does not allow to {right.name.lower()}")


def _decode(ticket: str) -> bytes:
    try:
        if len(ticket) > _TEXT_MAX:
            raise ValueError
        text = ticket.encode("ascii")
        raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != text:
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise NotAllowed("the ticket cannot be read") from error
    return raw
