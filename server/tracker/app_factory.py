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
from tracker.activity_log import Journal
from tracker.addresses import Addresses
from tracker.api import Views
from tracker.app import bearer, create_app
from tracker.auth import Entrance
from tracker.clock import SteadyClock
from tracker.corruption_reports import Reports
from tracker.dashboard.render_cache import Live
from tracker.dashboard.sessions import BrowserSessions
from tracker.dashboard.views import LOGIN_PATH, SNAPSHOT_PATH, Pages
from tracker.dns import Lookups, Resolver, resolve
from tracker.events import Events
from tracker.login_throttle import Attempts, Limits
from tracker.memory_index import MemoryIndex
from tracker.metrics import Metrics
from tracker.openapi import document
from tracker.passwords import Cost, Passwords
from tracker.routes import ROUTES, SMALL, Access, Allowance, Lane
from tracker.service import Tracker
from tracker.state_dir import secret

FILES_PER_USER = 1_000_000


@dataclass(frozen=True)
class Parts:
    """A tracker, ready to be served."""

    app: Flask
    tracker: Tracker
    entrance: Entrance
    metrics: Metrics
    close: Callable[[], None]
    # For the server, before a body is read: how much of it to read, and where the request waits its turn.
    allowance: Callable[[str, str, str], Allowance]
    lane: Callable[[str, str], Lane]


def build(
    state_dir: Path,
    *,
    open_registration: bool = True,
    ping_timeout: float = 25.0,
    advertise_check: bool = True,
    clock: SteadyClock | None = None,
    rng: Random | None = None,
    cost: Cost | None = None,
    limits: Limits | None = None,
    resolver: Resolver = resolve,
    files_per_user: int = FILES_PER_USER,
) -> Parts:
    """A tracker on a state folder that exists and that nobody else uses."""
    clock = clock or SteadyClock()
    metrics = Metrics()
    journal = Journal(clock.server_time)
    browsers = BrowserSessions(clock.now)
    events = Events(metrics, journal.happened, browsers.happened)
    accounts = Accounts(state_dir / "accounts.sqlite3", secret(state_dir / "secret"), clock.server_time())
    index = MemoryIndex(
        clock.now,
        ping_timeout,
        files_per_user,
        lambda session: events("expired", logging.WARNING, url=session.url, user=session.user),
        accounts.check,
    )
    reports = Reports(clock.now)
    addresses = Addresses(advertise_check, Lookups(resolver))
    entrance = Entrance(
        accounts,
        index,
        reports,
        Passwords(cost, at_once=max(2, min(4, os.cpu_count() or 2))),
        Attempts(clock.now, limits),
        addresses,
        clock,
        events,
        open_registration=open_registration,
        ping_timeout=ping_timeout,
    )
    tracker = Tracker(index, reports, clock, events, rng or Random(), journal)  # noqa: S311 - spreads load, guards nothing
    metrics.watch(tracker.totals, lambda: clock.server_time() - tracker.started)
    # Two pings may be lost before a peer counts as gone.
    ping_interval = ping_timeout / 2.5
    pages = Pages(Live(tracker, clock.now, VERSION, ping_interval), browsers, entrance)
    views = Views(tracker, entrance, addresses, metrics, document, ping_interval, pages.home)
    app = create_app(views, entrance, addresses, metrics, events, pages.blueprint())
    table = {(route.method, route.path): route for route in ROUTES}
    # An answer to HEAD is made like one to GET, and takes as long.
    table |= {("HEAD", route.path): route for route in ROUTES if route.method == "GET"}

    def allowance(method: str, path: str, authorization: str) -> Allowance:
        route = table.get((method, path))
        if route is None or route.access is Access.PUBLIC:
            return Allowance(SMALL)
        sender = entrance.user_of(bearer(authorization))
        if route.access is Access.OWN_MACHINE:
            return Allowance(SMALL, sender)
        return Allowance(route.limit if sender else 0, sender)

    def lane(method: str, path: str) -> Lane:
        route = table.get((method, path))
        if route is None:
            return {LOGIN_PATH: Lane.LOGIN, SNAPSHOT_PATH: Lane.SEARCH}.get(path, Lane.WORK)
        return route.lane

    return Parts(app, tracker, entrance, metrics, accounts.close, allowance, lane)
