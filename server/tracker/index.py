"""The interface of the index: which peers are online, and which files they have."""

from collections.abc import Collection, Iterable
from typing import Protocol

from tracker.models import (
    Copies,
    FoldedName,
    Holder,
    IndexEntry,
    ListedVersion,
    Load,
    OnlinePeer,
    PageCursor,
    ReceiverCheck,
    Session,
    SingleCopies,
    Totals,
    Version,
)


class Index(Protocol):
    """Online peers and their files. Thread-safe.

    A peer is removed together with its files, by `remove_peer` or after the ping timeout. The timeout is exact at every
    call, whether a cleanup has run or not. An announcement changes the files of its own peer only. A request can arrive
    after its session has ended or its pserver has stopped: `replace` and `patch` then raise NotLoggedIn or SendIndex,
    and change nothing. tests/server/test_index.py runs against every implementation.

    The size of an id, and whether and when a version of a name was modified and is executable, are what most holders
    announce; the latest of equal numbers. A time more than a minute in the tracker's future counts as not announced.

    Names are compared after folding (tracker.names). A version that peers have under several spellings of its name is
    one version, and is returned in the spelling that most peers have.

    Methods take many items at once where a request has many, so that an index across a network needs one round trip
    or a few for each request.
    """

    @property
    def epoch(self) -> str:
        """A string that changes when the index is lost."""

    def ping(self, session: Session, epoch: str, index_version: str, load: Load | None = None) -> bool:
        """Record that the peer is online now.

        Args:
            session: the peer's session.
            epoch: the epoch that the peer knows.
            index_version: the version of the files that the peer has announced.
            load: the peer's load; None leaves its last one.

        Returns:
            Whether the peer has to send its complete index. True and no record if its pserver has stopped meanwhile.

        Raises:
            NotLoggedIn: the session has ended.
        """

    def remove_peer(self, peer_id: str) -> None:
        """Remove the peer and its files; nothing happens if it is not online."""

    def move_peer(self, session: Session) -> None:
        """Give the peer of this session the session's address; its files stay. Nothing happens if it is offline."""

    def online(self, peer_ids: Collection[str]) -> set[str]:
        """Return those of the peers that sent a ping within the timeout."""

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
            remove: names, which are not checked, and ids of entries to remove.

        Raises:
            SendIndex: the files are not at `base`, or the pserver has stopped; nothing is changed.
            TooLarge: as in replace.
            NotLoggedIn: the session has ended.
        """

    def by_names(self, names: Iterable[str], limit: int) -> list[Version]:
        """Return up to `limit` versions of each name at online peers, the first known, in order of id.

        A version is returned in the requested spelling if a peer has it under that. The names have passed check_name.
        """

    def by_ids(self, ids: Iterable[bytes], limit: int) -> list[Version]:
        """Return up to `limit` names of each id at online peers, the first known, in order of name.

        Each has all holders of the id.
        """

    def holders(self, pairs: Iterable[tuple[str, bytes]]) -> list[Holder | None]:
        """Return for each pair of peer id and id the peer as a holder of the id; None if it is not one."""

    def holders_at(self, address: str, file_id: bytes) -> list[Holder]:
        """Return the holders of the id at the address."""

    def some_holders(self, ids: Iterable[bytes], limit: int) -> list[list[Holder]]:
        """Return up to `limit` holders of each id, in no order, for display."""

    def copies(self, files: Iterable[FoldedName], limit: int) -> list[Copies]:
        """Return what exists of each file at online peers; of content with many holders, at a hundred of them.

        Args:
            files: folded names and ids.
            limit: content holders of each.
        """

    def can_receive(self, checks: Collection[ReceiverCheck]) -> list[bool]:
        """Return for each check whether the peer can store the content under the name.

        It is online, and has nothing under the name, or this content and not complete.
        """

    def online_peers(self) -> list[OnlinePeer]:
        """Return the online peers, the longest silent first."""

    def some_peers(self, limit: int) -> list[OnlinePeer]:
        """Return up to `limit` online peers: a random sample, or all if there are no more."""

    def unknown_names(self, files: Iterable[IndexEntry]) -> list[str]:
        """Return the names that no peer has for these ids. The other names have passed check_name before."""

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        """List versions of names, in order of folded name and id.

        Args:
            match: part of the name, or with `*` or `?` a pattern for the whole name.
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
