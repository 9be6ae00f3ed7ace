"""Password hashes: scrypt, a few at a time. Knows nothing of users."""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tracker.errors import Busy


@dataclass(frozen=True)
class HashCost:
    """What one hash costs: OWASP's 2^15/8/3, 32 MiB and some tenths of a second. Tests take less."""

    n: int = 2**15
    r: int = 8
    p: int = 3


class Passwords:
    """Makes and checks hashes.

    Each takes 32 MiB and a core, so only `at_once` run together; `queue` more wait their turn and the rest are told to
    come back, so that a flood of logins takes neither the memory nor the other requests' time.
    """

    def __init__(self, cost: HashCost | None = None, max_running: int = 2, max_queued: int = 16) -> None:
        self._cost = cost or HashCost()
        self._turn = threading.BoundedSemaphore(max_running)
        self._places = threading.BoundedSemaphore(max_running + max_queued)
        self._dummy = self._stored(bytes(16), bytes(32))

    def hash(self, password: str) -> str:
        """A hash to be stored: scrypt$n$r$p$salt$digest."""
        salt = secrets.token_bytes(16)
        with self._hash_slot():
            return self._stored(salt, self._digest(password, salt, self._cost))

    def check(self, password: str, stored: str | None) -> bool:
        """Whether the password is the one; with no hash to compare with it takes as long and is not."""
        _, n, r, p, salt, digest = (stored or self._dummy).split("$")
        with self._hash_slot():
            made = self._digest(password, bytes.fromhex(salt), HashCost(int(n), int(r), int(p)))
        return hmac.compare_digest(made, bytes.fromhex(digest)) and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash was made at another cost than hashes are made at now."""
        return not stored.startswith(self._stored(b"", b"").rstrip("$"))

    def _stored(self, salt: bytes, digest: bytes) -> str:
        return f"scrypt${self._cost.n}${self._cost.r}${self._cost.p}${salt.hex()}${digest.hex()}"

    @staticmethod
    def _digest(password: str, salt: bytes, cost: HashCost) -> bytes:
        memory = 128 * cost.n * cost.r + 128 * cost.r * cost.p + 2**20
        return hashlib.scrypt(password.encode(), salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)

    @contextmanager
    def _hash_slot(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy("too many logins at once: try again in a second")
        try:
            with self._turn:
                yield
        finally:
            self._places.release()
