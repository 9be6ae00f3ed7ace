"""How often a login may fail: a delay per account, a bucket per address. Counts failures only; no I/O."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tracker.errors import TooMany


@dataclass(frozen=True)
class Limits:
    """What a stranger may try. The first failures of an account cost nothing; then 1, 2, 4 ... seconds."""

    free_failures: int = 5
    longest_delay: float = 60.0
    # Per address: so many failures at once, and so many a minute in the long run.
    burst: int = 30
    per_minute: float = 10.0
    # Accounts, and addresses, remembered at most; the longest untouched are forgotten first.
    remembered: int = 20_000


class Attempts:
    """Failed logins, by the name tried (known or not: the answer must not tell) and by the address they came from."""

    def __init__(self, now: Callable[[], float], limits: Limits | None = None) -> None:
        self._now = now
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        # user -> (failures in a row, no try before)
        self._users: OrderedDict[str, tuple[int, float]] = OrderedDict()
        # address -> (tokens left, as of)
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def begin(self, user: str, address: str) -> None:
        """Let a try go ahead.

        Raises:
            TooMany: not yet, and how long to wait.
        """
        with self._lock:
            wait = max(self._users.get(user, (0, 0.0))[1] - self._now(), self._address_wait(address))
        if wait > 0:
            raise TooMany(f"too many failed logins: try again in {wait:.0f} s", wait)

    def failed(self, user: str, address: str) -> None:
        """The try failed."""
        with self._lock:
            now = self._now()
            failures = self._users.get(user, (0, 0.0))[0] + 1
            beyond = failures - self._limits.free_failures
            delay = min(2.0 ** min(beyond - 1, 32), self._limits.longest_delay) if beyond > 0 else 0.0
            self._users[user] = (failures, now + delay)
            self._users.move_to_end(user)
            self._addresses[address] = (self._tokens(address) - 1, now)
            self._addresses.move_to_end(address)
            for remembered in (self._users, self._addresses):
                while len(remembered) > self._limits.remembered:
                    remembered.popitem(last=False)

    def succeeded(self, user: str) -> None:
        """The try succeeded: the account starts afresh. The address does not, or one good account would buy guesses."""
        with self._lock:
            self._users.pop(user, None)

    def _tokens(self, address: str) -> float:
        tokens, then = self._addresses.get(address, (float(self._limits.burst), self._now()))
        return min(tokens + (self._now() - then) * self._limits.per_minute / 60, float(self._limits.burst))

    def _address_wait(self, address: str) -> float:
        missing = 1 - self._tokens(address)
        return missing * 60 / self._limits.per_minute if missing > 0 else 0.0
