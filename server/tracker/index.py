"""What the tracker needs from a store of who is alive and who holds what. The seam, not an implementation."""

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
    """Who is alive, and who holds what.

    Safe to call from many threads. A peer and its files are forgotten together: when it leaves, and when it has been
    silent for the timeout, which holds exactly at every call and not when some sweeper happens to run. One peer's
    announcements never touch another's. A request may be slower than the end of its session or a clean stop of its
    peer: `touch`, `replace` and `patch` then raise NotLoggedIn or SendIndex, and change nothing.
    tests/server/test_index.py runs against every implementation.
    """

    def touch(self, session: Session, load: Load | None = None) -> None:
        """The peer is alive now. Without a load the last one stays."""

    def remove_peer(self, peer_id: str) -> None:
        """Forget the peer and its files; nothing happens if it is not here."""

    def is_online(self, peer_id: str) -> bool:
        """Whether the peer was heard of within the timeout."""

    def index_version(self, peer_id: str) -> str | None:
        """The version of the peer's list that is held; None if there is none."""

    def replace(self, session: Session, version: str, files: Collection[IndexEntry]) -> None:
        """Put a whole list in place of what the peer had, and take the peer for alive.

        Raises:
            TooLarge: the peer's user would hold more files than one account may; nothing is changed.
        """

    def patch(
        self,
        session: Session,
        base: str,
        version: str,
        add: Collection[IndexEntry],
        remove: Iterable[tuple[str, bytes]],
    ) -> None:
        """Take away, then add. The change that led to the version held is accepted again and changes nothing.

        Raises:
            SendIndex: the list held is not at the base version; nothing is changed.
            TooLarge: as in replace.
        """

    def by_name(self, name: str, limit: int) -> list[Version]:
        """The versions of a name that some live peer carries; in order of id. Of more than `limit` the first known."""

    def by_id(self, file_id: bytes, limit: int) -> list[Version]:
        """The names under which live peers carry these contents, each with all holders; in order of name.

        Of more than `limit` the first known.
        """

    def holder(self, file_id: bytes, peer_id: str) -> Holder | None:
        """This peer as a holder of these contents."""

    def some_holders(self, file_id: bytes, limit: int) -> list[Holder]:
        """Up to so many holders of these contents, in no order: for showing, where all would be too many."""

    def users_with_copy(self, file_id: bytes) -> set[str]:
        """Users whose live peers hold these contents whole; at most a hundred of them."""

    def can_receive(self, peer_id: str, folded: str, file_id: bytes) -> bool:
        """Whether a copy can go to the peer: alive, does not hold it whole, has no other contents under the name.

        The name comes folded (tracker.names): it is asked of hundreds of peers.
        """

    def online_peers(self) -> list[OnlinePeer]:
        """Everybody alive, the longest silent first."""

    def sessions_at(self, url: str) -> list[Session]:
        """Live peers with this address."""

    def unknown_names(self, names: Iterable[str]) -> list[str]:
        """Those of the names that nobody carries: only these need judging, the others were judged before."""

    def page(self, match: str, after: PageCursor | None, limit: int) -> tuple[list[ListedVersion], PageCursor | None]:
        """Versions of names after a place, ordered by name and id, and the place to go on from; None at the end.

        `match` is a case-insensitive part of the name, or with * or ? a pattern over the whole name. A search that
        takes long stops at the next name: then there are fewer than `limit`, perhaps none, and still a place.
        """

    def single_copies(self, match: str, limit: int) -> SingleCopies:
        """What is held whole by one live peer only, under names that match as in page.

        Walks all contents without keeping others out meanwhile, so it may be a moment behind. A search that takes long
        stops, and says that there is more.
        """

    def totals(self) -> Totals:
        """How much there is now."""
