"""Password hashes with scrypt, a few at a time. Knows no users."""

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
    """Cost of one hash: OWASP's minimum n=2^15, r=8, p=3, which takes 32 MiB and some tenths of a second."""

    n: int = 2**15
    r: int = 8
    p: int = 3


class Passwords:
    """Makes and checks hashes. Thread-safe.

    A hash takes 32 MiB and a core. `max_running` hashes run at once, `max_queued` wait, and any more raises Busy. So a
    flood of logins uses up neither memory nor the time of other requests.
    """

    def __init__(self, cost: HashCost | None = None, max_running: int = 2, max_queued: int = 16) -> None:
        self._cost = cost or HashCost()
        self._running = threading.BoundedSemaphore(max_running)
        self._accepted = threading.BoundedSemaphore(max_running + max_queued)
        self._dummy = self._stored(bytes(16), bytes(32))

    def hash(self, password: str) -> str:
        """Hash a password with a new salt.

        Returns:
            `scrypt$n$r$p$salt$digest`, salt and digest in hex.

        Raises:
            Busy: too many hashes run or wait.
        """
        salt = secrets.token_bytes(16)
        with self._hash_slot():
            return self._stored(salt, self._digest(password, salt, self._cost))

    def check(self, password: str, stored: str | None) -> bool:
        """Return whether a password has the stored hash. Without a hash it takes as long and returns False.

        Raises:
            Busy: too many hashes run or wait.
        """
        _, n, r, p, salt, digest = (stored or self._dummy).split("$")
        with self._hash_slot():
            made = self._digest(password, bytes.fromhex(salt), HashCost(int(n), int(r), int(p)))
        return hmac.compare_digest(made, bytes.fromhex(digest)) and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Return whether a hash has another cost than new ones."""
        return not stored.startswith(self._stored(b"", b"").rstrip("$"))

    def _stored(self, salt: bytes, digest: bytes) -> str:
        return f"scrypt${self._cost.n}${self._cost.r}${self._cost.p}${salt.hex()}${digest.hex()}"

    @staticmethod
    def _digest(password: str, salt: bytes, cost: HashCost) -> bytes:
        memory = 128 * cost.n * cost.r + 128 * cost.r * cost.p + 2**20
        return hashlib.scrypt(password.encode(), salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)

    @contextmanager
    def _hash_slot(self) -> Iterator[None]:
        if not self._accepted.acquire(blocking=False):
            raise Busy("too many logins at once: try again in a second")
        try:
            with self._running:
                yield
        finally:
            self._accepted.release()
