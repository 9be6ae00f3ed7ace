"""Signs tickets: one holder, one asker, one id, one right, five minutes. Never checks one; the holder does that."""

import hashlib
import hmac
import struct
from base64 import urlsafe_b64encode

READ = 1
WRITE = 2
LIFETIME = 300

_PREFIX = b"p2p-ticket-v1\0"
_LAYOUT = struct.Struct(">BB16s16s32sQQ")
_VERSION = 1


def derive_key(master: bytes, peer_id: str, token_digest: str) -> bytes:
    """The key of one login session: made again when needed, stored nowhere, worthless after the session."""
    return hmac.digest(master, f"p2p-ticket-key-v1|{peer_id}|{token_digest}".encode("ascii"), hashlib.sha256)


class Signer:
    """Signs for one asker at one moment: what does not change from holder to holder is laid out once."""

    def __init__(self, asker_id: str, asker_user: str, now: float) -> None:
        self._asker = bytes.fromhex(asker_id)
        self._user = asker_user.encode("ascii")
        self._issued = int(now)

    def sign(self, key: bytes, holder_id: str, file_id: bytes, right: int) -> str:
        """The ticket's text: base64url without padding of payload and MAC."""
        payload = (
            _LAYOUT.pack(
                _VERSION, right, bytes.fromhex(holder_id), self._asker, file_id, self._issued, self._issued + LIFETIME
            )
            + self._user
        )
        # "sha256" by name takes OpenSSL's one-call path, several times as fast as an HMAC object.
        mac = hmac.digest(key, _PREFIX + payload, "sha256")
        return urlsafe_b64encode(payload + mac).rstrip(b"=").decode("ascii")
