"""A ticket of the tracker is what the pserver reads and what the contract describes, byte for byte."""

import secrets

import pytest

import ticket_signer
from daemon.errors import NotAllowed
from daemon.protocol import tickets as holder
from tracker import tickets as tracker

NOW = 1_900_000_000.75


@pytest.mark.parametrize(
    ("right", "meaning"), [(tracker.Right.READ, holder.Right.READ), (tracker.Right.WRITE, holder.Right.WRITE)]
)
@pytest.mark.parametrize("user", ["a", "ana", "A.b-c_9", "x" * 64])
def test_the_pserver_accepts_what_the_tracker_signs(user: str, right: tracker.Right, meaning: holder.Right) -> None:
    master, holder_id, requester_id, id_ = (secrets.token_hex(n) for n in (32, 16, 16, 32))
    key = tracker.derive_key(bytes.fromhex(master), holder_id, "ab" * 32)
    text = tracker.TicketSigner(requester_id, user, right, NOW).sign(key, holder_id, bytes.fromhex(id_))

    assert holder.check(text, key=key, holder=holder_id, now=NOW) == (id_, meaning, requester_id, user)
    by_hand = ticket_signer.payload(
        holder=holder_id,
        id_=id_,
        right=right,
        requester=requester_id,
        user=user,
        issued=NOW,
        expires=NOW + tracker.TICKET_LIFETIME,
    )
    assert text == ticket_signer.sign(key, by_hand)


def test_a_ticket_expires_after_five_minutes_and_the_clock_tolerance() -> None:
    key, peer = secrets.token_bytes(32), secrets.token_hex(16)
    text = tracker.TicketSigner(peer, "ana", tracker.Right.READ, NOW).sign(key, peer, bytes(32))
    last = int(NOW) + 300 + holder.CLOCK_TOLERANCE
    assert holder.check(text, key=key, holder=peer, now=last)
    with pytest.raises(NotAllowed, match="expired"):
        holder.check(text, key=key, holder=peer, now=last + 1)


def test_another_session_of_the_same_peer_has_another_key() -> None:
    master, peer = secrets.token_bytes(32), secrets.token_hex(16)
    assert tracker.derive_key(master, peer, "ab" * 32) != tracker.derive_key(master, peer, "ac" * 32)
