"""The interface of the index: which peers are online, and which files they have."""

from collections.abc import Collection, Iterable
from typing import Protocol

from tracker.models import (
    Holder,
    IndexEntry,
    ListedVersion,
    Load,
    OnlinePeer,
    PageCursor,
    Session,
    SingleCopies,
    Totals,
    Version,
)


class Index(Protocol):
    """Online peers and their files. Thread-safe.

    A peer is removed together with its files, by `remove_peer` or after the ping timeout. The timeout is exact at every
    call, whether a cleanup has run or not. An announcement changes the files of its own peer only. A request can arrive
    after its session has ended or its pserver has stopped: `touch`, `replace` and `patch` then raise NotLoggedIn or
    SendIndex, and change nothing. tests/server/test_index.py runs against every implementation.
    """

    def touch(self, session: Session, load: Load | None = None) -> None:
        """Record that the peer is online now; None leaves its last load.

        Raises:
            NotLoggedIn: the session has ended.
            SendIndex: the pserver has stopped.
        """

    def remove_peer(self, peer_id: str) -> None:
        """Remove the peer and its files; nothing happens if it is not online."""

    def is_online(self, peer_id: str) -> bool:
        """Return whether the peer sent a ping within the timeout."""

    def index_version(self, peer_id: str) -> str | None:
        """Return the version of the peer's files; None if it has announced none."""

    def replace(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        """Replace all files of the peer, and record that it is online.

        Raises:
            TooLarge: the account would have too many files; nothing is changed.
            NotLoggedIn: the session has ended.
            SendIndex: the pserver has stopped.
        """

    def patch(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Iterable[tuple[str, bytes]],
    ) -> None:
        """Remove, then add. A repetition of the last change is accepted and changes nothing.

        Args:
            session: the peer's session.
            base: the version that the change applies to.
            version: the version after the change.
            add: new entries.
            remove: names and ids of entries to remove.

        Raises:
            SendIndex: the files are not at `base`, or the pserver has stopped; nothing is changed.
            TooLarge: as in replace.
            NotLoggedIn: the session has ended.
        """

    def by_name(self, name: str, limit: int) -> list[Version]:
        """Return up to `limit` versions of a name at online peers, the first known, in order of id."""

    def by_id(self, file_id: bytes, limit: int) -> list[Version]:
        """Return up to `limit` names of an id at online peers, the first known, in order of name.

        Each has all holders of the id.
        """

    def holder(self, file_id: bytes, peer_id: str) -> Holder | None:
        """Return the peer as a holder of the id; None if it is not one."""

    def some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        """Return up to `limit` holders of the id, in no order, for display."""

    def users_with_copy(self, file_id: bytes) -> set[str]:
        """Return users with a complete file of the id at an online peer; at most a hundred of them."""

    def can_receive(self, peer_id: str, folded: str, file_id: bytes) -> bool:
        """Return whether the peer can store a copy: online, without a complete file, no other content under the name.

        Args:
            peer_id: the peer.
            folded: the name, folded by tracker.names: one request asks this of hundreds of peers.
            file_id: the id.
        """

    def online_peers(self) -> list[OnlinePeer]:
        """Return the online peers, the longest silent first."""

    def sessions_at(self, address: str) -> list[Session]:
        """Return the sessions of online peers at the address."""

    def unknown_names(self, names: Iterable[str]) -> list[str]:
        """Return the names that no peer has. The other names have passed check_name before."""

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        """List versions of names, in order of name and id.

        Args:
            match: case-insensitive part of the name, or with `*` or `?` a pattern for the whole name.
            after: where the page before ended; None for the first page.
            limit: versions in a page.

        Returns:
            The page, and where the next one begins; None at the end. A search that times out returns a short or empty
            page that is not the last.
        """

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        """List up to `limit` files that exactly one online peer has complete; `match` is as in `page`.

        The search holds no lock, so changes during it may be missing. After a timeout it reports that there are more.
        """

    def totals(self) -> Totals:
        """Count what the index has."""
