"""Tickets: the tracker's signed permissions for requesters of this peer. A check needs no request to the tracker.

A ticket is base64url, without padding, of
    version (1), right (1 read, 2 write), holder, requester (16 bytes each), id (32 bytes),
    issued, expires (8 bytes each, seconds of the tracker's clock), the requester's user name,
followed by the HMAC-SHA256 of these bytes. Only the tracker and this login session know its key. The format has one
algorithm and one encoding: base64 that is not canonical is refused, because it would make variants of a ticket valid.
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

# The gRPC metadata that carries a ticket.
METADATA_KEY = "p2p-ticket"

# Seconds by which this peer's copy of the tracker's clock may be wrong. Each ping corrects it.
CLOCK_TOLERANCE = 30.0


class Right(enum.IntEnum):
    """What a ticket permits for its id: download (read) or push (write)."""

    READ = 1
    WRITE = 2


class Grant(NamedTuple):
    """A checked ticket."""

    id: str
    right: Right
    # The peer_id of the requester's session, 32 hexadecimal digits.
    requester: str
    user: str


def check(ticket: str, *, key: bytes, holder: str, now: float) -> Grant:
    """Check a ticket.

    Args:
        ticket: The text from the metadata.
        key: The ticket key of this login session.
        holder: The peer_id of this login session, 32 hexadecimal digits.
        now: The tracker's time in Unix seconds.

    Returns:
        What the ticket permits.

    Raises:
        NotAllowed: The ticket is forged, damaged, expired, for another holder, or not in the canonical encoding.
    """
    raw = _decode(ticket)
    payload, mac = raw[:-_MAC_LENGTH], raw[-_MAC_LENGTH:]
    if len(payload) < _PAYLOAD.size or not hmac.compare_digest(
        mac, hmac.new(key, _CONTEXT + payload, hashlib.sha256).digest()
    ):
        raise NotAllowed("the ticket is not valid at this peer: query the tracker for a new one")
    version, right, ticket_holder, requester, id_, _issued, expires = _PAYLOAD.unpack_from(payload)
    if version != 1 or right not in (Right.READ, Right.WRITE) or ticket_holder.hex() != holder:
        raise NotAllowed("the ticket is for another peer: query the tracker for a new one")
    if now > expires + CLOCK_TOLERANCE:
        raise NotAllowed("the ticket has expired: query the tracker for a new one")
    return Grant(id_.hex(), Right(right), requester.hex(), payload[_PAYLOAD.size :].decode("ascii", "replace"))


def require_right(grant: Grant, right: Right) -> None:
    """Check that a grant includes a right.

    Raises:
        NotAllowed: It does not.
    """
    if grant.right is not right:
        raise NotAllowed(f"the ticket permits no {'download' if right is Right.READ else 'push'}")


def _decode(ticket: str) -> bytes:
    try:
        if len(ticket) > _TEXT_MAX:
            raise ValueError
        text = ticket.encode("ascii")
        raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != text:
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise NotAllowed("the ticket is not in the format of tickets") from error
    return raw
