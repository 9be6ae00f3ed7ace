"""Puts the tracker together: the one place that knows every part. Nothing here listens or ends."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from flask import Flask

from tracker import VERSION
from tracker.accounts import Accounts
from tracker.activity_log import ActivityLog
from tracker.addresses import AddressPolicy
from tracker.api import Views
from tracker.app import bearer_token, create_app
from tracker.auth import AuthService
from tracker.clock import SteadyClock
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
from tracker.routes import ROUTES, SMALL_BODY_LIMIT, Access, BodyLimit, Pool
from tracker.service import Tracker
from tracker.state_dir import load_secret

MAX_FILES_PER_USER = 1_000_000


@dataclass(frozen=True)
class TrackerParts:
    """A tracker, ready to be served."""

    app: Flask
    tracker: Tracker
    auth: AuthService
    metrics: Metrics
    close: Callable[[], None]
    # For the server, before a body is read: how much of it to read, and where the request waits its turn.
    body_limit: Callable[[str, str, str], BodyLimit]
    pool: Callable[[str, str], Pool]


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
) -> TrackerParts:
    """A tracker on a state folder that exists and that nobody else uses."""
    clock = clock or SteadyClock()
    metrics = Metrics()
    journal = ActivityLog(clock.server_time)
    browsers = BrowserSessions(clock.now)
    events = Events(metrics, journal.on_event, browsers.on_event)
    accounts = Accounts(state_dir / "accounts.sqlite3", load_secret(state_dir / "secret"), clock.server_time())
    index = MemoryIndex(
        clock.now,
        ping_timeout,
        files_per_user,
        lambda session: events("expired", logging.WARNING, url=session.address, user=session.user),
        accounts.check_session,
    )
    reports = CorruptionReports(clock.now)
    addresses = AddressPolicy(advertise_check, HostLookup(resolver))
    entrance = AuthService(
        accounts,
        index,
        reports,
        Passwords(cost, max_running=max(2, min(4, os.cpu_count() or 2))),
        LoginThrottle(clock.now, limits),
        addresses,
        clock,
        events,
        open_registration=open_registration,
        ping_timeout=ping_timeout,
    )
    tracker = Tracker(index, reports, clock, events, rng or Random(), journal)  # noqa: S311 - spreads load, guards nothing
    metrics.register_gauges(tracker.totals, lambda: clock.server_time() - tracker.started)
    # Two pings may be lost before a peer counts as gone.
    ping_interval = ping_timeout / 2.5
    pages = Dashboard(RenderCache(tracker, clock.now, VERSION, ping_interval), browsers, entrance)
    views = Views(tracker, entrance, addresses, metrics, openapi_document, ping_interval, pages.home)
    app = create_app(views, entrance, addresses, metrics, events, pages.blueprint())
    table = {(route.method, route.path): route for route in ROUTES}
    # An answer to HEAD is made like one to GET, and takes as long.
    table |= {("HEAD", route.path): route for route in ROUTES if route.method == "GET"}

    def allowance(method: str, path: str, authorization: str) -> BodyLimit:
        route = table.get((method, path))
        if route is None or route.access is Access.PUBLIC:
            return BodyLimit(SMALL_BODY_LIMIT)
        sender = entrance.user_of(bearer_token(authorization))
        if route.access is Access.OWN_MACHINE:
            return BodyLimit(SMALL_BODY_LIMIT, sender)
        return BodyLimit(route.body_limit if sender else 0, sender)

    def lane(method: str, path: str) -> Pool:
        route = table.get((method, path))
        if route is None:
            return {LOGIN_PATH: Pool.LOGIN, SNAPSHOT_PATH: Pool.SEARCH}.get(path, Pool.WORK)
        return route.pool

    return TrackerParts(app, tracker, entrance, metrics, accounts.close, allowance, lane)
