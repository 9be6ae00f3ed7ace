"""How often a login may fail: a delay per account, a bucket per address. Counts failures, done or under way; no I/O."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

from tracker.addresses import rate_limit_key
from tracker.errors import Busy, LoginRefused, TooMany, UnknownUser


@dataclass(frozen=True)
class LoginLimits:
    """What a stranger may try. The first failures of an account cost nothing; then 1, 2, 4 ... seconds."""

    free_failures: int = 5
    max_delay: float = 60.0
    # Per address: so many failures at once, and so many a minute in the long run.
    burst: int = 30
    per_minute: float = 10.0
    # Accounts, and addresses, remembered at most; the longest untouched are forgotten first.
    max_remembered: int = 20_000


class LoginThrottle:
    """Failed logins, by the name tried (known or not: the answer must not tell) and by the address they came from."""

    def __init__(self, now: Callable[[], float], limits: LoginLimits | None = None) -> None:
        self._now = now
        self._limits = limits or LoginLimits()
        self._lock = threading.Lock()
        # user -> (failures in a row, no try before)
        self._users: OrderedDict[str, tuple[int, float]] = OrderedDict()
        # address -> (tokens left, as of)
        self._addresses: OrderedDict[str, tuple[float, float]] = OrderedDict()
        # Tries under way: any number could be begun before the first of them fails.
        self._user_tries: Counter[str] = Counter()
        self._address_tries: Counter[str] = Counter()

    def check(self, user: str, address: str) -> None:
        """Let somebody try who need not wait.

        Raises:
            TooMany: not yet, and how long to wait.
        """
        with self._lock:
            self._check_wait(user, rate_limit_key(address))

    @contextmanager
    def attempt(self, user: str, address: str) -> Iterator[None]:
        """One login: LoginRefused or UnknownUser from the block is a failure, any other error is not counted.

        Raises:
            TooMany: as begin.
            Busy: if those under way fail, this one has to wait; nobody knows yet.
        """
        address = rate_limit_key(address)
        with self._lock:
            self._check_wait(user, address)
            if self._user_tries[user] >= self._free(user) or self._address_tries[address] >= self._tokens(address):
                raise Busy("too many logins of this user, or from this address, at once: try again in a second")
            self._user_tries[user] += 1
            self._address_tries[address] += 1
        try:
            yield
        except (LoginRefused, UnknownUser):
            self._failed(user, address)
            raise
        else:
            # The account starts afresh. The address does not, or one good account would buy guesses.
            with self._lock:
                self._users.pop(user, None)
        finally:
            with self._lock:
                self._user_tries -= Counter({user: 1})
                self._address_tries -= Counter({address: 1})

    def _failed(self, user: str, address: str) -> None:
        with self._lock:
            now = self._now()
            failures = self._users.get(user, (0, 0.0))[0] + 1
            beyond = failures - self._limits.free_failures
            delay = min(2.0 ** min(beyond - 1, 32), self._limits.max_delay) if beyond > 0 else 0.0
            self._users[user] = (failures, now + delay)
            self._users.move_to_end(user)
            self._addresses[address] = (self._tokens(address) - 1, now)
            self._addresses.move_to_end(address)
            for remembered in (self._users, self._addresses):
                while len(remembered) > self._limits.max_remembered:
                    remembered.popitem(last=False)

    # Below, the lock is held.

    def _check_wait(self, user: str, address: str) -> None:
        wait = max(self._users.get(user, (0, 0.0))[1] - self._now(), self._address_wait(address))
        if wait > 0:
            raise TooMany(f"too many failed logins: try again in {ceil(wait)} s", wait)

    def _free(self, user: str) -> int:
        """How many may fail now until the next has to wait; the failure after the free ones is the first to be told."""
        return max(1, self._limits.free_failures + 1 - self._users.get(user, (0, 0.0))[0])

    def _tokens(self, address: str) -> float:
        tokens, then = self._addresses.get(address, (float(self._limits.burst), self._now()))
        return min(tokens + (self._now() - then) * self._limits.per_minute / 60, float(self._limits.burst))

    def _address_wait(self, address: str) -> float:
        missing = 1 - self._tokens(address)
        return missing * 60 / self._limits.per_minute if missing > 0 else 0.0
