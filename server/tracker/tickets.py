"""Signs tickets: one requester, one holder, one id, one right, five minutes. Checking them is the holder's part.

The tracker reads a ticket only as the proof of a report: that it offered this holder to this requester.

A ticket is base64url without padding of payload and MAC. Payload, big-endian: version (1 byte), right (1), holder (16),
requester (16), id (32), issue and expiry as Unix seconds (8 each), the requester's user name in ASCII. MAC: HMAC-SHA256
of a prefix and the payload, under a key that only the tracker and the holder's session have.
"""

import hashlib
import hmac
import struct
from binascii import a2b_base64, b2a_base64
from enum import IntEnum
from typing import NamedTuple

TICKET_LIFETIME = 300
# Characters of the longest ticket: that of a user name of 64 characters.
MAX_TICKET_LENGTH = 238

_PREFIX = b"p2p-ticket-v1\0"
_VERSION = 1
_HEAD = struct.Struct(">BB")
_TIMES = struct.Struct(">QQ")
_FIXED = struct.Struct(">BB16s16s32sQQ")
_MAC_LENGTH = 32
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Right(IntEnum):
    """What a ticket permits: READ to download from the holder, WRITE to push to it."""

    READ = 1
    WRITE = 2


def derive_key(master_key: bytes, peer_id: str, token_digest: str) -> bytes:
    """Derive the ticket key of a session (32 bytes); it is stored nowhere and worthless after the session."""
    return hmac.digest(master_key, f"p2p-ticket-key-v1|{peer_id}|{token_digest}".encode("ascii"), hashlib.sha256)


class SignedTicket(NamedTuple):
    """A ticket as it was sent. Its fields are claims until `is_genuine`.

    `holder_id` and `requester_id` are 32 hex digits, `issued` is in Unix seconds.
    """

    right: int
    holder_id: str
    requester_id: str
    file_id: bytes
    issued: int
    payload: bytes
    mac: bytes

    def is_genuine(self, key: bytes) -> bool:
        """Return whether the tracker signed the ticket under the ticket key of a holder's session."""
        return hmac.compare_digest(hmac.digest(key, _PREFIX + self.payload, "sha256"), self.mac)


def read_ticket(ticket: str) -> SignedTicket | None:
    """Read the claims of a ticket; None if it is not one. Expired tickets are read too."""
    try:
        raw = a2b_base64(ticket.encode("ascii").translate(_STANDARD) + b"=" * (-len(ticket) % 4), strict_mode=True)
    except ValueError:
        return None
    payload, mac = raw[:-_MAC_LENGTH], raw[-_MAC_LENGTH:]
    if len(payload) < _FIXED.size:
        return None
    version, right, holder, requester, file_id, issued, _ = _FIXED.unpack_from(payload)
    if version != _VERSION:
        return None
    return SignedTicket(right, holder.hex(), requester.hex(), file_id, issued, payload, mac)


class TicketSigner:
    """Signs for one requester, one right and one moment: that part of the payload is built once."""

    def __init__(self, requester_id: str, requester_user: str, right: Right, now: float) -> None:
        """Prepare the common part.

        Args:
            requester_id: peer id of the requester, 32 hex digits.
            requester_user: its user.
            right: what the tickets permit.
            now: server_time.
        """
        issued = int(now)
        self._head = _HEAD.pack(_VERSION, right)
        self._requester = bytes.fromhex(requester_id)
        self._times_and_user = _TIMES.pack(issued, issued + TICKET_LIFETIME) + requester_user.encode("ascii")

    def sign(self, key: bytes, holder_id: str, file_id: bytes) -> str:
        """Sign a ticket.

        Args:
            key: the ticket key of the holder's session.
            holder_id: peer id of the holder or receiver, 32 hex digits.
            file_id: the id, 32 bytes.
        """
        payload = b"".join((self._head, bytes.fromhex(holder_id), self._requester, file_id, self._times_and_user))
        # "sha256" by name uses OpenSSL's one-call function, several times as fast as an HMAC object.
        mac = hmac.digest(key, _PREFIX + payload, "sha256")
        return b2a_base64(payload + mac, newline=False).translate(_URL_SAFE, b"=").decode("ascii")
