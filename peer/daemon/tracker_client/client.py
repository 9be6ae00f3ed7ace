"""The tracker's REST API for this pserver: the only module that knows the tracker's requests and responses.

The methods are coroutines. Each request runs in a thread of the executor that the client was made with. Every failure
of a request is a PeerError.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from common.status_messages import ListedFile, ListedPeer, Load
from common.version import PROTOCOL, VERSION
from daemon.errors import Incompatible, NoActivePeer, NoSuchFile, PeerError
from daemon.models import Holder, IndexEntry, PingResponse, PushTarget, RemoteFile, Version
from daemon.runtime.concurrency import TaskSet
from daemon.tracker_client import responses
from daemon.tracker_client.list_parts import (
    ListParts,
    Part,
    change_encoder,
    entry_encoder,
    text_of_patch,
    text_of_string,
    text_of_version,
)
from daemon.tracker_client.negotiation import renegotiating
from daemon.tracker_client.own_address import AUTO, MOVING_PROTOCOL
from daemon.tracker_client.ping_interval import PING_TIMEOUT
from daemon.tracker_client.requester import Requester
from daemon.tracker_client.responses import LoginResponse

log = logging.getLogger(__name__)

# The most files of one request (the tracker's limit).
FILES_PER_REQUEST = 5000
# A response to a query or a placement names at most 10,000 peers (the tracker's limit), and at most 30 for each file.
# Queries of this many ids or names therefore lose no holder.
_PEERS_PER_RESPONSE = 10_000
_PEERS_PER_FILE = 30
QUERIES_PER_REQUEST = _PEERS_PER_RESPONSE // _PEERS_PER_FILE
_FILES_PER_PAGE = 1000
_REASON_MAX = 200
# The protocol from which on a report has the ticket of the holder.
_TICKET_REPORTS_PROTOCOL = 2


class TrackerClient(Requester):
    """The tracker as this peer sees it: a method for each route."""

    def __init__(self, url: str, executor: Executor, *, verify: bool | str = True) -> None:
        """Connect lazily; as Requester."""
        super().__init__(url, executor, verify=verify)
        self._reports = TaskSet()

    # -------------------------------------------------------------------------------------------------------- session

    @renegotiating
    async def login(self, user: str, password: str, address: str, *, register: bool = True) -> LoginResponse:
        """Log in. The new token is not stored here.

        The present token goes with the request. It proves that this peer has the address already.

        Args:
            user: The user name.
            password: The password in plain text.
            address: `host:port` under which this peer can be reached; the host `auto` is where the tracker sees it.
            register: Whether an unknown user gets an account, if the tracker allows it.

        Raises:
            LoginRefused: The password is wrong, another user's peer has the address, or too many logins failed.
            UnknownUser: The user is unknown and `register` is false.
            TrackerUnreachable: No valid response.
            Incompatible: The releases do not fit, or the tracker does not know `auto`.
        """
        await self.negotiate()
        if self.protocol < MOVING_PROTOCOL and address.startswith(f"{AUTO}:"):
            raise Incompatible(
                f"the tracker at {self._transport.url} does not know PSERVER_URL={AUTO}: upgrade it, or set an address"
            )
        body: dict[str, Any] = {"username": user, "password": password, "url": address}
        if not register:
            body["register"] = False
        if self.protocol >= 2:
            body |= {"version": VERSION, "protocol": PROTOCOL}
        return await self._request("POST", "/login", body, parse=responses.login_response)

    async def logout(self) -> None:
        """End the session. The tracker removes this peer's files from the index at once."""
        await self._request("POST", "/logout", {}, parse=responses.nothing)

    async def change_password(self, old: str, new: str) -> None:
        """Change the password of the user who is logged in.

        Raises:
            LoginRefused: `old` is wrong, or too many logins failed.
        """
        await self._request("POST", "/password", {"old": old, "new": new}, parse=responses.nothing)

    # --------------------------------------------------------------------------------------------- liveness and index

    @renegotiating
    async def ping(
        self,
        epoch: str,
        index_version: str,
        load: Load,
        *,
        address: str | None = None,
        read_timeout: float = PING_TIMEOUT,
    ) -> PingResponse:
        """Report that this peer is online.

        Args:
            epoch: The tracker's epoch as last received; empty if there is none.
            index_version: The version of the index that the tracker should have.
            load: This peer's load.
            address: This peer's address, as for `login`; the session moves there. None: it has not changed.
            read_timeout: Seconds without a byte of the response.
        """
        load_fields = {
            "uploads": load.uploads,
            "downloads": load.downloads,
            "free_bytes": load.free_bytes,
            "rate": load.rate,
        }
        body = {"epoch": epoch, "index_version": index_version, "load": load_fields}
        if address is not None and self.protocol >= MOVING_PROTOCOL:
            body["url"] = address
        return await self._request("PUT", "/ping", body, parse=responses.pong, read_timeout=read_timeout)

    @renegotiating
    async def put_index(self, version: str, files: Sequence[IndexEntry]) -> None:
        """Replace this peer's index: the first request does that, further ones add to it.

        Args:
            version: What the tracker is to call this state of the index.
            files: All entries.
        """

        def request(part: Part) -> tuple[str, str]:
            then = version if part.is_last else f"{version}.{part.end}"
            if part.start == 0:
                return "PUT", f'{{"version": {text_of_string(then)}, "files": [{part.text}]}}'
            return "PATCH", text_of_patch(f"{version}.{part.start}", then, part.text, "")

        await self._announce(ListParts(files, entry_encoder(self.protocol), FILES_PER_REQUEST), request)

    @renegotiating
    async def patch_index(
        self, base: str, version: str, add: Sequence[IndexEntry], remove: Sequence[tuple[str, str]]
    ) -> None:
        """Change this peer's index, in as few requests as possible, the removals first.

        Args:
            base: The version that the change builds on.
            version: The version with the change.
            add: Entries to add or replace.
            remove: Name and id of each entry to remove.

        Raises:
            SendIndex: The tracker does not have `base`.
        """
        changes: list[IndexEntry | tuple[str, str]] = [*remove, *add]

        def request(part: Part) -> tuple[str, str]:
            removed, added = part.split(len(remove))
            then = version if part.is_last else f"{version}.c{part.end}"
            return "PATCH", text_of_patch(f"{version}.c{part.start}" if part.start else base, then, added, removed)

        await self._announce(ListParts(changes, change_encoder(self.protocol), FILES_PER_REQUEST), request)

    async def delete_index(self) -> None:
        """Leave the index and the list of online peers now. The session stays.

        An announcement that the tracker gets later would put this peer back, so those under way end first.
        """
        await self._wait_for_announcements()
        await self._request("DELETE", "/index", parse=responses.nothing)

    # -------------------------------------------------------------------------------------------------------- queries

    async def query(self, *, names: Sequence[str] = (), ids: Sequence[str] = ()) -> list[RemoteFile]:
        """Return the versions of names or of ids, each with its holders, the best first.

        Args:
            names: Names to look up. Ignored if `ids` are given.
            ids: Ids to look up.

        Returns:
            The versions that exist. A name or id without a holder is left out.
        """
        key, values = ("ids", ids) if ids else ("names", names)
        found: list[RemoteFile] = []

        def request(part: Part) -> tuple[str, str]:
            return "POST", f'{{"{key}": [{part.text}]}}'

        # Each id once: many names may have it, and each answer names up to a hundred of them.
        parts = ListParts(list(dict.fromkeys(values)), text_of_string, QUERIES_PER_REQUEST)
        while parts.left:
            with suppress(NoSuchFile):
                found += await self._send_part("/query", parts, request, responses.versions)
        return found

    async def place(self, files: Sequence[Version], copies: int) -> list[PushTarget]:
        """Return the peers that should store copies.

        Args:
            files: The files to copy.
            copies: How many receivers to name for each file.

        Returns:
            The receivers, the best first for each id. The list is empty if no online peer can store a copy.
        """
        most = max(1, min(FILES_PER_REQUEST, _PEERS_PER_RESPONSE // copies))
        targets: list[PushTarget] = []

        def request(part: Part) -> tuple[str, str]:
            return "POST", f'{{"files": [{part.text}], "copies": {copies}}}'

        parts = ListParts(files, text_of_version, most)
        while parts.left:
            with suppress(NoActivePeer):
                targets += await self._send_part("/upload", parts, request, responses.targets)
        return targets

    async def files(self, match: str) -> AsyncIterator[list[ListedFile]]:
        """Yield the files of the network, page by page.

        Args:
            match: A part of the name, or a pattern with `*` and `?`; empty for all files.

        Yields:
            One page of the list, in order of names.
        """
        after: str | None = None
        while True:
            params = {"match": match, "limit": str(_FILES_PER_PAGE)} | ({"after": after} if after else {})
            page, after = await self._request("GET", "/files", params=params, parse=responses.page)
            yield page
            if after is None:
                return

    async def peers(self) -> list[ListedPeer]:
        """Return the online peers."""
        return await self._request("GET", "/peers", parse=responses.peers)

    def report_corrupt(self, id_: str, holder: Holder, reason: str) -> None:
        """Report a holder that sent corrupt data. Returns at once; a failure is logged.

        Args:
            id_: The id that was requested.
            holder: The holder, as the tracker named it. Its ticket is the proof of the report.
            reason: One line. The tracker gets its first 200 characters.
        """

        async def report() -> None:
            body = {"id": id_, "url": holder.address, "reason": reason[:_REASON_MAX]}
            if self.protocol >= _TICKET_REPORTS_PROTOCOL:
                body["ticket"] = holder.ticket
            try:
                await self._request("POST", "/report", body, parse=responses.nothing)
            except PeerError as error:
                log.info("the corruption report about %s was not sent: %s", holder.address, error)

        self._reports.start(report())

    # ------------------------------------------------------------------------------------------------------- requests

    async def _announce(self, parts: ListParts[Any], request: Callable[[Part], tuple[str, str]]) -> None:
        """Send a list of entries, which may be empty."""
        await self._send_part("/index", parts, request, responses.nothing)
        while parts.left:
            await self._send_part("/index", parts, request, responses.nothing)
