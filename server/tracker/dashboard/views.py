"""Routes of the dashboard: HTML and JSON for a browser's session.

The blueprint checks each request itself and refuses by default.
"""

import hashlib
import re
from math import ceil
from pathlib import Path

import orjson
from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from tracker.auth import AuthService
from tracker.dashboard.render_cache import RenderCache
from tracker.dashboard.sessions import BrowserSessions
from tracker.errors import BadRequest, LoginRefused, NotAllowed, NotLoggedIn, TooMany, TrackerError

NAME = "dashboard"
LOGIN_PATH = "/page/login"
SNAPSHOT_PATH = "/page/snapshot"
# From LOGIN_PATH and the logout. Relative, since a proxy may serve the dashboard below a path that only it knows.
_HOME = "../"
MAX_MATCH_LENGTH = 1000

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# With no-referrer, browsers would send "Origin: null" with our own forms.
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
# Browsers take a cookie with this prefix only from the host itself, over TLS.
_SECURE_PREFIX = "__Host-"
_USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Every other endpoint of the blueprint needs a browser's session.
_PUBLIC_ENDPOINTS = frozenset({"asset", "login", "logout"})


class Dashboard:
    """The page at /, and its routes below /page/."""

    def __init__(self, cache: RenderCache, sessions: BrowserSessions, auth: AuthService) -> None:
        self._cache = cache
        self._sessions = sessions
        self._auth = auth
        folder = Path(__file__).parent / "static"
        self._assets = {name: (folder / name).read_bytes() for name in _ASSETS}

    def blueprint(self) -> Blueprint:
        """Return all routes except /, which is in the tracker's own route table."""
        blueprint = Blueprint(NAME, __name__)
        blueprint.before_request(self._guard)
        blueprint.after_request(_add_security_headers)
        blueprint.add_url_rule(LOGIN_PATH, "login", self.login, methods=["POST"])
        blueprint.add_url_rule("/page/logout", "logout", self.logout, methods=["POST"])
        blueprint.add_url_rule(SNAPSHOT_PATH, "snapshot", self.snapshot)
        for name in _ASSETS:
            blueprint.add_url_rule(f"/page/{name}", "asset", self.asset)
        return blueprint

    def home(self) -> Response:
        """Serve the dashboard, or the login form without a session."""
        user = self._user()
        if user is None:
            return _add_security_headers(_html_response(self._cache.login("")))
        match, single_copy = _search()
        return _add_security_headers(_html_response(self._cache.page(user, match, single_copy)))

    def login(self) -> AnyResponse:
        """Start a browser's session. Registers no account and changes no session of a pserver."""
        user = request.form.get("username", "")
        password = request.form.get("password", "")
        try:
            if not _USER.fullmatch(user) or not 1 <= len(password.encode(errors="replace")) <= 1024:
                raise LoginRefused("wrong user name or password")
            self._auth.check_password(user, password, request.remote_addr or "")
        except TrackerError as refusal:
            message = refusal.message[:1].upper() + refusal.message[1:] + "."
            form = _html_response(self._cache.login(_HOME, message, user[:64]), refusal.status)
            if isinstance(refusal, TooMany) and refusal.retry_after is not None:
                form.headers["Retry-After"] = str(ceil(refusal.retry_after))
            return form
        response = redirect(_HOME, 303, Response)
        name, secure = _cookie(), _is_secure()
        name = f"{_SECURE_PREFIX}{name}" if secure else name
        response.set_cookie(name, self._sessions.open(user), path="/", secure=secure, httponly=True, samesite="Strict")
        return response

    def logout(self) -> AnyResponse:
        """End the browser's session, if there is one."""
        response = redirect(_HOME, 303, Response)
        for name, token in _cookies().items():
            self._sessions.close(token)
            secure = name.startswith(_SECURE_PREFIX)
            response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")
        return response

    def snapshot(self) -> Response:
        """Serve the parts of the page as JSON; of a part whose tag is in the query's `have`, only the tag."""
        parts = self._cache.parts(*_search())
        etag = hashlib.blake2b("".join(part.tag for part in parts.values()).encode(), digest_size=12).hexdigest()
        if request.if_none_match.contains(etag):
            response = Response(status=304)
        else:
            have = set(request.args.get("have", "").split(","))
            parts_sent = {
                name: {"tag": part.tag} if part.tag in have else {"tag": part.tag, "html": part.html}
                for name, part in parts.items()
            }
            body = orjson.dumps({"status": 200, "message": "ok", "parts": parts_sent})
            response = Response(body, mimetype="application/json")
        response.set_etag(etag)
        response.headers["Server-Time"] = f"{self._cache.server_time():.3f}"
        return response

    def asset(self) -> Response:
        """Serve the style sheet, the script or the icon."""
        name = request.path.rpartition("/")[2]
        return Response(self._assets[name], mimetype=_ASSETS[name])

    def _guard(self) -> None:
        if request.method == "POST" and not _is_same_origin():
            raise NotAllowed("this form was sent by another site; open the dashboard and try again there")
        if (request.endpoint or "").rpartition(".")[2] not in _PUBLIC_ENDPOINTS and self._user() is None:
            raise NotLoggedIn("not logged in, or the session has ended; log in at /")

    def _user(self) -> str | None:
        for token in _cookies().values():
            user = self._sessions.user_of(token)
            if user is not None:
                return user
        return None


def _search() -> tuple[str, bool]:
    match = request.args.get("match", "").strip()
    if len(match) > MAX_MATCH_LENGTH:
        raise BadRequest(f"match should have at most {MAX_MATCH_LENGTH} characters")
    return match, request.args.get("only") == "single-copy"


def _is_same_origin() -> bool:
    """Return whether a POST comes from a page of this origin, or from a program that is no browser.

    Browsers send Sec-Fetch-Site over TLS and on loopback, and Origin with every POST. A program that sends neither
    carries no user's cookie, so it can forge nothing. SameSite cookies are not enough: another port of the same host
    is the same site.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in ("same-origin", "none")
    # A proxy in front of the tracker may end TLS.
    return origin is None or origin.lower() in (f"{request.scheme}://{request.host}".lower(), _https_origin())


def _https_origin() -> str:
    return f"https://{request.host}".lower()


def _is_secure() -> bool:
    """Return whether the browser sends a form over TLS, which a proxy in front of the tracker may end."""
    return request.is_secure or request.headers.get("Origin", "").lower() == _https_origin()


def _cookie() -> str:
    """Return the cookie's name. Browsers share cookies among the ports of a host, so each tracker has its own name."""
    port = request.host.rpartition(":")[2]
    return f"p2p-page-{port}" if port.isascii() and port.isdigit() else "p2p-page"


def _cookies() -> dict[str, str]:
    """Return the cookies of the request that may have a session, by name. Over TLS only the first kind is set."""
    secure = f"{_SECURE_PREFIX}{_cookie()}"
    names = (secure,) if request.is_secure else (secure, _cookie())
    return {name: request.cookies[name] for name in names if name in request.cookies}


def _html_response(text: str, status: int = 200) -> Response:
    return Response(text, status=status, mimetype="text/html")


def _add_security_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response
