"""The cookie that lets a terminal drive its own pserver, and the proof that a pserver is one's own. No network here.

A pserver makes the cookie (32 random bytes, kept as hex digits in STATE_DIR/cookie, mode 0600) anew at each start; who
can read the file may call Control. Before a terminal shows the cookie to whoever listens at the pserver's port, both
sides prove that they know it, as Tor's SAFECOOKIE does: the terminal by its challenge, the pserver by its answer. Both
proofs name the port, so that a squatter on one port cannot pass them on to the pserver on another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from common import state_files

COOKIE_FILE = "cookie"
COOKIE_KEY = "p2p-cookie"
CHALLENGE_KEY = "p2p-challenge"
LENGTH = 32

_HEX = re.compile(r"[0-9a-f]{64}")
_CHALLENGE = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


def make_cookie(state_dir: Path, randomness: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """Make a new cookie in `state_dir`, in place of an old one; return its 32 bytes."""
    cookie = randomness(LENGTH)
    state_files.write_private(state_dir / COOKIE_FILE, cookie.hex().encode("ascii"))
    return cookie


def read_cookie(state_dir: Path) -> bytes:
    """The cookie of the pserver that runs on `state_dir`, as 32 bytes.

    Raises:
        FileNotFoundError: if no pserver runs there.
        state_files.UnsafeFile: if others could have read or planted it; says why.
    """
    path = state_dir / COOKIE_FILE
    text = state_files.read_private(path).decode("ascii", "replace").strip()
    if not _HEX.fullmatch(text):
        raise state_files.UnsafeFile(f"{path} holds no cookie; restart the pserver, which makes a new one")
    return bytes.fromhex(text)


def cookie_matches(shown: str, cookie: bytes) -> bool:
    """Whether the metadata p2p-cookie holds the cookie; takes as long for every wrong one."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), cookie.hex().encode("ascii"))


def make_challenge(cookie: bytes, port: int, nonce: bytes) -> str:
    """The metadata p2p-challenge: `nonce` (32 bytes), and the proof that the terminal knows the cookie."""
    return f"{nonce.hex()}.{_mac(cookie, b'p2p-prove-pclient', port, nonce).hex()}"


def check_challenge(shown: str, cookie: bytes, port: int) -> bytes | None:
    """The nonce of a challenge made with our cookie for our port; None for any other."""
    found = _CHALLENGE.fullmatch(shown)
    if found is None:
        return None
    nonce = bytes.fromhex(found[1])
    good = hmac.compare_digest(bytes.fromhex(found[2]), _mac(cookie, b"p2p-prove-pclient", port, nonce))
    return nonce if good else None


def make_proof(cookie: bytes, port: int, nonce: bytes) -> bytes:
    """What a pserver answers to `nonce`: that it knows the cookie and listens on `port`."""
    return _mac(cookie, b"p2p-prove-pserver", port, nonce)


def check_proof(shown: bytes, cookie: bytes, port: int, nonce: bytes) -> bool:
    """Whether `shown` proves that the pserver dialled at `port` knows the cookie."""
    return hmac.compare_digest(shown, make_proof(cookie, port, nonce))


def _mac(cookie: bytes, purpose: bytes, port: int, nonce: bytes) -> bytes:
    return hmac.new(cookie, b"|".join((purpose, str(port).encode("ascii"), nonce)), hashlib.sha256).digest()
