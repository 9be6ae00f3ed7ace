"""Limits failed logins: a growing delay per user, a token bucket per source. Running attempts count too. No I/O."""

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
    """How many logins may fail.

    Attributes:
        free_failures: failures of a user without a delay; the next ones cost 1, 2, 4, ... seconds.
        max_delay: the longest delay of a user, in seconds.
        burst: failures of one source at once.
        per_minute: failures of one source in the long run.
        max_remembered: users, and sources, that are remembered; the least recent are dropped.
    """

    free_failures: int = 5
    max_delay: float = 60.0
    burst: int = 30
    per_minute: float = 10.0
    max_remembered: int = 20_000


class LoginThrottle:
    """Failed logins, by user name and by source. Unknown names count like known ones, so that delays reveal nothing."""

    def __init__(self, now: Callable[[], float], limits: LoginLimits | None = None) -> None:
        self._now = now
        self._limits = limits or LoginLimits()
        self._lock = threading.Lock()
        # user -> (failures in a row, time of the next allowed attempt)
        self._users: OrderedDict[str, tuple[int, float]] = OrderedDict()
        # source -> (tokens left, time of that count)
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()
        # Running attempts: any number could start before the first one fails.
        self._user_attempts: Counter[str] = Counter()
        self._source_attempts: Counter[str] = Counter()

    @property
    def remembered(self) -> tuple[list[str], list[str]]:
        """Users and sources with failures, the least recent first."""
        with self._lock:
            return list(self._users), list(self._sources)

    @property
    def running(self) -> int:
        """The number of attempts that run now."""
        with self._lock:
            return self._user_attempts.total()

    def check(self, user: str, source: str) -> None:
        """Check that a user may attempt a login now.

        Args:
            user: the name that the client sent.
            source: IP address of the client.

        Raises:
            TooMany: the user or the source has to wait.
        """
        with self._lock:
            self._check_wait(user, rate_limit_key(source))

    @contextmanager
    def attempt(self, user: str, source: str) -> Iterator[None]:
        """One login: LoginRefused or UnknownUser from the block is a failure, any other error is not counted.

        Raises:
            TooMany: as in check.
            Busy: this attempt would have to wait if the running ones fail.
        """
        key = rate_limit_key(source)
        with self._lock:
            self._check_wait(user, key)
            if self._user_attempts[user] >= self._free(user) or self._source_attempts[key] >= self._tokens(key):
                raise Busy("too many logins of this user, or from this address, at once: try again in a second")
            self._user_attempts[user] += 1
            self._source_attempts[key] += 1
        try:
            yield
        except (LoginRefused, UnknownUser):
            self._failed(user, key)
            raise
        else:
            # Resets the user, but not the source: one known password must not allow more guesses at others.
            with self._lock:
                self._users.pop(user, None)
        finally:
            with self._lock:
                self._user_attempts -= Counter({user: 1})
                self._source_attempts -= Counter({key: 1})

    def refund_sign_up(self, user: str, source: str) -> None:
        """Return to a source what the UnknownUser before a registration cost it; called before the attempt ends.

        Many people may sign up from one address. The refund permits no guess: the account did not exist before.

        Args:
            user: the user that the running attempt has registered.
            source: IP address of the client.
        """
        key = rate_limit_key(source)
        with self._lock:
            if user in self._users and key in self._sources:
                self._sources[key] = (min(self._tokens(key) + 1, float(self._limits.burst)), self._now())

    def _failed(self, user: str, key: str) -> None:
        with self._lock:
            now = self._now()
            failures = self._users.get(user, (0, 0.0))[0] + 1
            beyond = failures - self._limits.free_failures
            delay = min(2.0 ** min(beyond - 1, 32), self._limits.max_delay) if beyond > 0 else 0.0
            self._users[user] = (failures, now + delay)
            self._users.move_to_end(user)
            self._sources[key] = (self._tokens(key) - 1, now)
            self._sources.move_to_end(key)
            for remembered in (self._users, self._sources):
                while len(remembered) > self._limits.max_remembered:
                    remembered.popitem(last=False)

    # The methods below are called with the lock held.

    def _check_wait(self, user: str, key: str) -> None:
        wait = max(self._users.get(user, (0, 0.0))[1] - self._now(), self._source_wait(key))
        if wait > 0:
            raise TooMany(f"too many failed logins: try again in {ceil(wait)} s", wait)

    def _free(self, user: str) -> int:
        """Return how many attempts may run at once: as many failures as are left until the user has to wait."""
        return max(1, self._limits.free_failures + 1 - self._users.get(user, (0, 0.0))[0])

    def _tokens(self, key: str) -> float:
        tokens, then = self._sources.get(key, (float(self._limits.burst), self._now()))
        return min(tokens + (self._now() - then) * self._limits.per_minute / 60, float(self._limits.burst))

    def _source_wait(self, key: str) -> float:
        missing = 1 - self._tokens(key)
        return missing * 60 / self._limits.per_minute if missing > 0 else 0.0
