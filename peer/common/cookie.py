"""The cookie that proves a pclient to its pserver, and the reverse. No network I/O.

A pserver writes a new cookie at each start: 32 random bytes, as hex digits in STATE_DIR/cookie, mode 0600. A program
that can read the file may call Control. Another program might listen at the pserver's port. So both sides prove that
they know the cookie before pclient sends it: pclient by its challenge, the pserver by its response. The scheme is Tor's
SAFECOOKIE. Both proofs cover the port, so that a program on one port cannot relay them to the pserver on another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import state_files

COOKIE_FILE = "cookie"
COOKIE_KEY = "p2p-cookie"
CHALLENGE_KEY = "p2p-challenge"
LENGTH = 32

_HEX = re.compile(r"[0-9a-f]{64}")
_CHALLENGE = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


@dataclass(slots=True)
class PserverCookie:
    """The cookie of a running pserver, of 32 bytes, and the port that it listens on: both proofs cover the port."""

    secret: bytes
    port: int

    def make_proof(self, nonce: bytes) -> bytes:
        """Return the response to `nonce`: the proof that this pserver knows the cookie."""
        return make_proof(self.secret, self.port, nonce)


def make_cookie(state_dir: Path, randomness: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """Write a new cookie to `state_dir`, in place of an old one, and return it.

    Args:
        state_dir: an existing folder.
        randomness: returns a number of secure random bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    cookie = randomness(LENGTH)
    state_files.write_private(state_dir / COOKIE_FILE, cookie.hex().encode("ascii"))
    return cookie


def read_cookie(state_dir: Path) -> bytes:
    """Return the cookie, of 32 bytes, of the pserver that runs on `state_dir`.

    Raises:
        FileNotFoundError: if no pserver runs on it.
        state_files.UnsafeFile: if another user could have read or written the file; the message says why.
        OSError: if the file cannot be read.
    """
    path = state_dir / COOKIE_FILE
    text = state_files.read_private(path).decode("ascii", "replace").strip()
    if not _HEX.fullmatch(text):
        raise state_files.UnsafeFile(f"{path} contains no cookie; restart the pserver, which writes a new one")
    return bytes.fromhex(text)


def cookie_matches(shown: str, cookie: bytes) -> bool:
    """Return whether `shown`, the metadata p2p-cookie, is the cookie. The comparison takes constant time."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), cookie.hex().encode("ascii"))


def make_challenge(cookie: bytes, port: int, nonce: bytes) -> str:
    """Return the metadata p2p-challenge: `nonce`, of 32 bytes, and pclient's proof that it knows the cookie."""
    return f"{nonce.hex()}.{_mac(cookie, b'p2p-prove-pclient', port, nonce).hex()}"


def check_challenge(shown: str, cookie: bytes, port: int) -> bytes | None:
    """Return the nonce of a challenge that was made with this cookie for this port; None for any other challenge."""
    found = _CHALLENGE.fullmatch(shown)
    if found is None:
        return None
    nonce = bytes.fromhex(found[1])
    good = hmac.compare_digest(bytes.fromhex(found[2]), _mac(cookie, b"p2p-prove-pclient", port, nonce))
    return nonce if good else None


def make_proof(cookie: bytes, port: int, nonce: bytes) -> bytes:
    """Return the pserver's response to `nonce`: the proof that it knows the cookie and listens on `port`."""
    return _mac(cookie, b"p2p-prove-pserver", port, nonce)


def check_proof(shown: bytes, cookie: bytes, port: int, nonce: bytes) -> bool:
    """Return whether `shown` proves that the pserver at `port` knows the cookie."""
    return hmac.compare_digest(shown, make_proof(cookie, port, nonce))


def _mac(cookie: bytes, purpose: bytes, port: int, nonce: bytes) -> bytes:
    return hmac.new(cookie, b"|".join((purpose, str(port).encode("ascii"), nonce)), hashlib.sha256).digest()
