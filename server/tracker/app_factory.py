"""Builds the tracker from its parts: the composition root. It neither listens nor exits."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from flask import Flask

from tracker import VERSION
from tracker.account_store.opening import open_store
from tracker.accounts import Accounts
from tracker.activity_log import ActivityLog
from tracker.addresses import AddressPolicy
from tracker.api import Views
from tracker.app import bearer_token, create_app
from tracker.auth import AuthService
from tracker.corruption_reports import CorruptionReports
from tracker.dashboard.render_cache import RenderCache
from tracker.dashboard.sessions import BrowserSessions
from tracker.dashboard.views import LOGIN_PATH, SNAPSHOT_PATH, Dashboard
from tracker.dns import HostLookup, Resolver, resolve
from tracker.events import Events
from tracker.login_throttle import LoginLimits, LoginThrottle
from tracker.memory_index import MemoryIndex
from tracker.metrics import Metrics
from tracker.openapi import openapi_document
from tracker.passwords import HashCost, Passwords
from tracker.proxies import Network, TrustedProxies
from tracker.routes import ROUTES, SMALL_BODY_LIMIT, Access, BodyLimit, Pool
from tracker.service import Tracker
from tracker.state_dir import load_secret
from tracker.wsgi_bridge import SourceOf

MAX_FILES_PER_USER = 1_000_000


class SteadyClock:
    """Wall time at its creation, plus the monotonic time since. Later changes of the machine's clock have no effect."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """Return seconds of the monotonic clock, to measure durations."""
        return self._monotonic()

    def server_time(self) -> float:
        """Return Unix seconds, as sent to peers and written into tickets."""
        return self._monotonic() + self._offset


@dataclass(frozen=True)
class TrackerParts:
    """A tracker, ready to be served.

    Attributes:
        app: the WSGI application.
        tracker: the operations of logged-in peers.
        auth: login and logout.
        metrics: counters for Prometheus.
        close: closes the database.
        body_limit: method, path and Authorization header of a request -> how much of its body is read, and for whom.
        pool: method and path of a request -> where it runs.
        source_of: decides where a request comes from.
    """

    app: Flask
    tracker: Tracker
    auth: AuthService
    metrics: Metrics
    close: Callable[[], None]
    body_limit: Callable[[str, str, str], BodyLimit]
    pool: Callable[[str, str], Pool]
    source_of: SourceOf


def open_accounts(state_dir: Path, now: float) -> Accounts:
    """Open the accounts and the secret of a tracker; create them at its first start. `now` is server_time.

    Raises:
        StateError: a file in `state_dir` cannot be used.
        Incompatible: a newer release wrote the accounts.
    """
    secret = state_dir / "secret"
    # The secret is made last, so a secret without accounts means that the accounts were lost.
    store = open_store(state_dir / "accounts.sqlite3", may_create=not secret.exists())
    try:
        return Accounts(store, load_secret(secret), now)
    except BaseException:
        store.close()
        raise


def build(
    state_dir: Path,
    *,
    open_registration: bool = True,
    ping_timeout: float = 25.0,
    advertise_check: bool = True,
    clock: SteadyClock | None = None,
    rng: Random | None = None,
    cost: HashCost | None = None,
    limits: LoginLimits | None = None,
    resolver: Resolver = resolve,
    files_per_user: int = MAX_FILES_PER_USER,
    trusted_proxies: Iterable[Network] = (),
) -> TrackerParts:
    """Build a tracker.

    Args:
        state_dir: an existing folder that no other tracker uses.
        open_registration: whether a login creates the account of an unknown user.
        ping_timeout: seconds without a ping after which a peer is offline.
        advertise_check: whether an announced address must lead to the source of the login.
        clock: the tracker's clock.
        rng: chooses among equal peers, and samples them.
        cost: of password hashes.
        limits: of failed logins.
        resolver: looks up host names.
        files_per_user: entries that all peers of one account may announce together.
        trusted_proxies: addresses of proxies whose X-Forwarded-For is believed.

    Raises:
        StateError: a file in `state_dir` cannot be used.
        Incompatible: a newer release wrote the accounts.
    """
    clock = clock or SteadyClock()
    rng = rng or Random()  # noqa: S311 - spreads load, guards nothing
    metrics = Metrics()
    activity = ActivityLog(clock.server_time)
    browsers = BrowserSessions(clock.now)
    events = Events(metrics, activity.on_event, browsers.on_event)
    accounts = open_accounts(state_dir, clock.server_time())
    index = MemoryIndex(
        clock.now,
        clock.server_time,
        ping_timeout,
        files_per_user,
        on_expired=lambda session: events("expired", logging.WARNING, address=session.address, user=session.user),
        check_session=accounts.check_session,
        rng=rng,
    )
    reports = CorruptionReports(clock.now)
    addresses = AddressPolicy(advertise_check, HostLookup(resolver))
    proxies = TrustedProxies(trusted_proxies)
    auth = AuthService(
        accounts,
        index,
        reports,
        Passwords(cost, max_running=max(2, min(4, os.cpu_count() or 2))),
        LoginThrottle(clock.now, limits),
        addresses,
        clock.server_time,
        events,
        open_registration=open_registration,
        ping_timeout=ping_timeout,
    )
    tracker = Tracker(index, reports, clock.server_time, events, rng, activity)
    metrics.register_gauges(tracker.totals, lambda: clock.server_time() - tracker.started)
    # Two pings may be lost before a peer counts as offline.
    ping_interval = ping_timeout / 2.5
    dashboard = Dashboard(RenderCache(tracker, clock.now, VERSION, ping_interval), browsers, auth)
    views = Views(tracker, auth, metrics, openapi_document, ping_interval, dashboard.home)
    app = create_app(views, auth, metrics, events, dashboard.blueprint(), behind_proxy=proxies.configured)
    routes = {(route.method, route.path): route for route in ROUTES}
    routes |= {("HEAD", route.path): route for route in ROUTES if route.method == "GET"}

    def body_limit(method: str, path: str, authorization: str) -> BodyLimit:
        route = routes.get((method, path))
        if route is None or route.access is Access.PUBLIC:
            return BodyLimit(SMALL_BODY_LIMIT)
        user = auth.user_of(bearer_token(authorization))
        if route.access is Access.OWN_MACHINE:
            return BodyLimit(SMALL_BODY_LIMIT, user)
        return BodyLimit(route.body_limit if user else 0, user)

    def pool(method: str, path: str) -> Pool:
        route = routes.get((method, path))
        if route is None:
            return {LOGIN_PATH: Pool.LOGIN, SNAPSHOT_PATH: Pool.SEARCH}.get(path, Pool.WORK)
        return route.pool

    return TrackerParts(app, tracker, auth, metrics, accounts.close, body_limit, pool, proxies.source_of)
