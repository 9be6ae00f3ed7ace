"""The page's routes: HTML in a browser's session. A blueprint with a guard of its own, which refuses by default."""

import hashlib
import re
from math import ceil
from pathlib import Path

import orjson
from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from tracker.auth import AuthService
from tracker.dashboard.csrf import is_same_origin
from tracker.dashboard.render_cache import RenderCache
from tracker.dashboard.sessions import BrowserSessions
from tracker.errors import BadRequest, LoginRefused, NotAllowed, NotLoggedIn, TooMany, TrackerError

NAME = "pages"
LOGIN_PATH = "/page/login"
SNAPSHOT_PATH = "/page/snapshot"
MAX_MATCH_LENGTH = 1000

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# With no-referrer browsers would send "Origin: null" with our own forms.
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_USER = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What anybody may ask for; every other route of the blueprint needs a browser's session.
_PUBLIC_ENDPOINTS = frozenset({"asset", "login", "logout"})


class Dashboard:
    """The page at / and what belongs to it below /page/."""

    def __init__(self, live: RenderCache, sessions: BrowserSessions, entrance: AuthService) -> None:
        self._live = live
        self._sessions = sessions
        self._entrance = entrance
        folder = Path(__file__).parent / "static"
        self._assets = {name: (folder / name).read_bytes() for name in _ASSETS}

    def blueprint(self) -> Blueprint:
        """All routes but /, which stands in the tracker's own table."""
        pages = Blueprint(NAME, __name__)
        pages.before_request(self._guard)
        pages.after_request(_add_security_headers)
        pages.add_url_rule(LOGIN_PATH, "login", self.login, methods=["POST"])
        pages.add_url_rule("/page/logout", "logout", self.logout, methods=["POST"])
        pages.add_url_rule(SNAPSHOT_PATH, "snapshot", self.snapshot)
        for name in _ASSETS:
            pages.add_url_rule(f"/page/{name}", "asset", self.asset)
        return pages

    def home(self) -> Response:
        """The page; to strangers the form."""
        user = self._user()
        if user is None:
            return _add_security_headers(_html_response(self._live.login()))
        match, once = _search()
        return _add_security_headers(_html_response(self._live.page(user, match, once)))

    def login(self) -> AnyResponse:
        """A browser's session. A pserver's sessions are not touched, and nobody is registered here."""
        user = request.form.get("username", "")
        password = request.form.get("password", "")
        try:
            if not _USER.fullmatch(user) or not 1 <= len(password.encode(errors="replace")) <= 1024:
                raise LoginRefused("wrong user name or password")
            self._entrance.check_password(user, password, request.remote_addr or "")
        except TrackerError as refusal:
            message = refusal.message[:1].upper() + refusal.message[1:] + "."
            answer = _html_response(self._live.login(message, user[:64]), refusal.status)
            if isinstance(refusal, TooMany) and refusal.retry_after is not None:
                answer.headers["Retry-After"] = str(ceil(refusal.retry_after))
            return answer
        inside = redirect("/", 303, Response)
        inside.set_cookie(
            _cookie(), self._sessions.open(user), path="/", secure=request.is_secure, httponly=True, samesite="Strict"
        )
        return inside

    def logout(self) -> AnyResponse:
        """End the browser's session, if there is one."""
        self._sessions.close(request.cookies.get(_cookie(), ""))
        answer = redirect("/", 303, Response)
        answer.delete_cookie(_cookie(), path="/", secure=request.is_secure, httponly=True, samesite="Strict")
        return answer

    def snapshot(self) -> Response:
        """The parts of the page that are not what the script has already (`have`: their tags)."""
        parts = self._live.parts(*_search())
        etag = hashlib.blake2b("".join(part.tag for part in parts.values()).encode(), digest_size=12).hexdigest()
        if request.if_none_match.contains(etag):
            answer = Response(status=304)
        else:
            have = set(request.args.get("have", "").split(","))
            told = {
                name: {"tag": part.tag} if part.tag in have else {"tag": part.tag, "html": part.html}
                for name, part in parts.items()
            }
            body = orjson.dumps({"status": 200, "message": "ok", "parts": told})
            answer = Response(body, mimetype="application/json")
        answer.set_etag(etag)
        answer.headers["Server-Time"] = f"{self._live.server_time():.3f}"
        return answer

    def asset(self) -> Response:
        """Style, script, icon."""
        name = request.path.rpartition("/")[2]
        return Response(self._assets[name], mimetype=_ASSETS[name])

    def _guard(self) -> None:
        if request.method == "POST" and not is_same_origin(*_origin_headers(), request.scheme, request.host):
            raise NotAllowed("this form was sent by another site: open the page itself and try there")
        if (request.endpoint or "").rpartition(".")[2] not in _PUBLIC_ENDPOINTS and self._user() is None:
            raise NotLoggedIn("not logged in, or the session has ended: log in at /")

    def _user(self) -> str | None:
        return self._sessions.user_of(request.cookies.get(_cookie(), ""))


def _search() -> tuple[str, bool]:
    match = request.args.get("match", "").strip()
    if len(match) > MAX_MATCH_LENGTH:
        raise BadRequest(f"match is at most {MAX_MATCH_LENGTH} characters")
    return match, request.args.get("only") == "once"


def _origin_headers() -> tuple[str | None, str | None]:
    return request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")


def _cookie() -> str:
    """The cookie's name. Browsers share cookies among the ports of a host: two trackers must not share one."""
    port = request.host.rpartition(":")[2]
    name = f"p2p-page-{port}" if port.isascii() and port.isdigit() else "p2p-page"
    return f"__Host-{name}" if request.is_secure else name


def _html_response(text: str, status: int = 200) -> Response:
    return Response(text, status=status, mimetype="text/html")


def _add_security_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response
