"""Signs tickets: one holder, one asker, one id, one right, five minutes. Never checks one; the holder does that."""

import hashlib
import hmac
import struct
from binascii import b2a_base64

READ = 1
WRITE = 2
TICKET_LIFETIME = 300

_PREFIX = b"p2p-ticket-v1\0"
# Version, right; 16 bytes holder, 16 bytes asker, 32 bytes id; issued, expires; the asker's user name.
_HEAD = struct.Struct(">BB")
_TIMES = struct.Struct(">QQ")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_VERSION = 1


def derive_key(master: bytes, peer_id: str, token_digest: str) -> bytes:
    """The key of one login session: made again when needed, stored nowhere, worthless after the session."""
    return hmac.digest(master, f"p2p-ticket-key-v1|{peer_id}|{token_digest}".encode("ascii"), hashlib.sha256)


class TicketSigner:
    """Signs for one asker at one moment: what does not change from holder to holder is laid out once."""

    def __init__(self, requester_id: str, requester_user: str, now: float) -> None:
        issued = int(now)
        self._asker = bytes.fromhex(requester_id)
        self._times_and_user = _TIMES.pack(issued, issued + TICKET_LIFETIME) + requester_user.encode("ascii")

    def sign(self, key: bytes, holder_id: str, file_id: bytes, right: int) -> str:
        """The ticket's text: base64url without padding of payload and MAC."""
        payload = b"".join(
            (_HEAD.pack(_VERSION, right), bytes.fromhex(holder_id), self._asker, file_id, self._times_and_user)
        )
        # "sha256" by name takes OpenSSL's one-call path, several times as fast as an HMAC object.
        mac = hmac.digest(key, _PREFIX + payload, "sha256")
        return b2a_base64(payload + mac, newline=False).translate(_URL_SAFE, b"=").decode("ascii")
