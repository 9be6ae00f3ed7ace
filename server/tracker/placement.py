"""Chooses the receivers of copies: which online peers should store which files of one request.

Pure: no I/O or clock. It asks the index through a function, about many peers and files at once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tracker.models import Copies, Load, ReceiverCheck, Session

# Further candidates of each file that are checked with those of the next round, in the second round; each later round
# has as many times more. Most files need only the first round, which checks as many as are wanted.
CANDIDATES_PER_ROUND = 8
# Checks of spare candidates in one round, of all files.
_MAX_SPARE_CHECKS = 20_000

# What is known about a candidate of a file.
_UNKNOWN, _ASKED, _CAN, _CANNOT = range(4)


class Candidate(Protocol):
    """An online peer that may store a copy."""

    @property
    def session(self) -> Session:
        """The peer's session."""

    @property
    def load(self) -> Load:
        """The peer's load."""


class WantedFile(NamedTuple):
    """A file that needs receivers; `folded` is its name after folding, `size` is in bytes."""

    name: str
    folded: str
    id: bytes
    size: int


class Receiver(NamedTuple):
    """A chosen peer; `has_content` if it needs only the name, because it has the content under another one."""

    peer: Candidate
    has_content: bool


class _Share:
    """The content of one id at one receiver: its bytes are reserved once, for all names that go there."""

    __slots__ = ("names", "receiver", "size")

    def __init__(self, receiver: Receiver, size: int) -> None:
        self.receiver = receiver
        self.size = size
        self.names = 0


class _Choice:
    """The receivers of one file."""

    __slots__ = ("answers", "copies", "file", "preferred", "receivers", "users")

    def __init__(self, file: WantedFile, copies: Copies, uploader_user: str) -> None:
        self.file = file
        self.copies = copies
        # By peer id.
        self.receivers: dict[str, Receiver] = {}
        # Users with a copy, and those of the receivers.
        self.users = {uploader_user, *copies.users}
        # Peers that need no bytes; None until the first round.
        self.preferred: Sequence[Receiver] | None = None
        # What is known about these and the candidates after them; empty if nothing is.
        self.answers = bytearray()


class ReceiverPlan:
    """Receivers for the files of one request, chosen as if file after file was checked with the index.

    Peers that need no bytes come first: they have the content under another name, or receive it for another name of
    the same request. Then come the candidates in their order; in both, peers of users without a copy come first. A
    receiver has room for all that it is chosen for; the bytes of an id count once.

    Which candidates can store a file is asked in rounds. A round assumes that each candidate it chooses can, and asks
    about all of them together. Those that cannot are replaced in the next round.
    """

    def __init__(
        self,
        files: Sequence[WantedFile],
        copies: Sequence[Copies],
        wanted: int,
        uploader_user: str,
        can_receive: Callable[[Sequence[ReceiverCheck]], list[bool]],
    ) -> None:
        """Plan without receivers.

        Args:
            files: the files; each pair of folded name and id once.
            copies: what exists of each file.
            wanted: receivers of each file.
            uploader_user: the uploader's user, who has a copy.
            can_receive: whether peers can store files; as Index.can_receive.
        """
        self._wanted = wanted
        self._uploader_user = uploader_user
        self._can_receive = can_receive
        self._choices = [_Choice(*each, uploader_user) for each in zip(files, copies, strict=True)]
        # For each id with several names in this request: its receivers, by peer id. Hardly any id has.
        names = Counter(file.id for file in files)
        self._shares: dict[bytes, dict[str, _Share]] = {file_id: {} for file_id, count in names.items() if count > 1}
        # By peer id: bytes that the chosen files need there.
        self._reserved: dict[str, int] = {}

    def is_complete(self) -> bool:
        """Return whether each file has all receivers that are wanted."""
        return not self._incomplete()

    def receivers(self) -> list[list[Receiver]]:
        """Return the receivers of each file, best first."""
        return [list(choice.receivers.values()) for choice in self._choices]

    def choose(self, candidates: Sequence[Candidate]) -> None:
        """Choose receivers for the files that have too few; those that they have stay.

        Args:
            candidates: online peers without the uploader's, best first.
        """
        for choice in self._choices:
            choice.preferred, choice.answers = None, bytearray()
        spare = 0
        while incomplete := self._incomplete():
            asked: list[tuple[_Choice, int, str]] = []
            for choice in incomplete:
                self._propose(choice, candidates, min(spare, _MAX_SPARE_CHECKS // len(incomplete)), asked)
            if not asked:
                return
            answers = self._can_receive([(peer_id, each.file.folded, each.file.id) for each, _, peer_id in asked])
            for (choice, position, peer_id), can in zip(asked, answers, strict=True):
                if not can:
                    self._withdraw(choice, peer_id)
                    choice.answers = choice.answers or self._no_answers(choice, candidates)
                if choice.answers:
                    choice.answers[position] = _CAN if can else _CANNOT
            spare = spare * CANDIDATES_PER_ROUND or CANDIDATES_PER_ROUND

    def _incomplete(self) -> list[_Choice]:
        return [choice for choice in self._choices if len(choice.receivers) < self._wanted]

    def _propose(
        self, choice: _Choice, candidates: Sequence[Candidate], spare: int, asked: list[tuple[_Choice, int, str]]
    ) -> None:
        """Choose receivers for a file, and list those to ask about, with some more candidates."""
        preferred = choice.preferred
        if preferred is None:
            preferred = choice.preferred = self._without_bytes(choice)
        if spare:
            choice.answers = choice.answers or self._no_answers(choice, candidates)
        peers = [*(receiver.peer for receiver in preferred), *candidates] if preferred else candidates
        answers, chosen = choice.answers, choice.receivers
        missing = self._wanted - len(chosen)
        for only_new_users in (True, False):
            for position, candidate in enumerate(peers):
                answer = answers[position] if answers else _UNKNOWN
                if answer == _CANNOT:
                    continue
                peer = candidate.session
                if peer.peer_id in chosen or (only_new_users and peer.user in choice.users):
                    continue
                needs_bytes = position >= len(preferred)
                if needs_bytes and not self._has_room(candidate, choice.file.size):
                    continue
                if missing:
                    self._add(choice, Receiver(candidate, False) if needs_bytes else preferred[position])
                    missing -= 1
                elif answer == _UNKNOWN and spare:
                    spare -= 1
                else:
                    continue
                if answer == _UNKNOWN:
                    asked.append((choice, position, peer.peer_id))
                    if answers:
                        answers[position] = _ASKED
                if not missing and not spare:
                    return

    @staticmethod
    def _no_answers(choice: _Choice, candidates: Sequence[Candidate]) -> bytearray:
        return bytearray(len(choice.preferred or ()) + len(candidates))

    def _without_bytes(self, choice: _Choice) -> Sequence[Receiver]:
        shares = self._shares.get(choice.file.id)
        if not shares and not choice.copies.content_holders:
            return ()
        chosen = {peer_id: share.receiver for peer_id, share in (shares or {}).items()}
        for holder in choice.copies.content_holders:
            chosen.setdefault(holder.session.peer_id, Receiver(holder, has_content=True))
        return list(chosen.values())

    def _has_room(self, peer: Candidate, size: int) -> bool:
        load = peer.load
        return not load.free_bytes_known or load.free_bytes - self._reserved.get(peer.session.peer_id, 0) >= size

    def _add(self, choice: _Choice, receiver: Receiver) -> None:
        peer, file = receiver.peer.session, choice.file
        choice.receivers[peer.peer_id] = receiver
        choice.users.add(peer.user)
        size = 0 if receiver.has_content else file.size
        shares = self._shares.get(file.id)
        if shares is not None:
            share = shares.get(peer.peer_id)
            if share is None:
                share = shares[peer.peer_id] = _Share(receiver, size)
            else:
                size = 0
            share.names += 1
        self._reserved[peer.peer_id] = self._reserved.get(peer.peer_id, 0) + size

    def _withdraw(self, choice: _Choice, peer_id: str) -> None:
        """Take back that a peer was chosen; nothing happens if it was only asked about."""
        receiver = choice.receivers.pop(peer_id, None)
        if receiver is None:
            return
        users = (each.peer.session.user for each in choice.receivers.values())
        choice.users = {self._uploader_user, *choice.copies.users, *users}
        size = 0 if receiver.has_content else choice.file.size
        shares = self._shares.get(choice.file.id)
        if shares is not None:
            share = shares[peer_id]
            share.names -= 1
            size = 0 if share.names else share.size
            if not share.names:
                del shares[peer_id]
        self._reserved[peer_id] -= size
