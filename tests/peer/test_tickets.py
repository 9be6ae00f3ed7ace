"""A ticket permits what the tracker signed, for its holder and until it expires; no other text is accepted."""

import base64
import random

import pytest

from daemon.errors import NotAllowed
from daemon.protocol.tickets import CLOCK_TOLERANCE, Right, check, require_right
from ticket_signer import READ, WRITE, payload, sign

KEY = bytes(range(32))
HOLDER, REQUESTER, ID = "0" * 31 + "1", "0" * 31 + "2", "ab" * 32
NOW = 2_000_000_000.0
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def ticket_payload(**changes: object) -> bytes:
    fixed: dict[str, object] = {
        "holder": HOLDER,
        "requester": REQUESTER,
        "id_": ID,
        "issued": NOW,
        "expires": NOW + 300,
    }
    return payload(**{**fixed, **changes})  # type: ignore[arg-type]


def is_accepted(ticket: str, *, key: bytes = KEY, holder: str = HOLDER, now: float = NOW) -> bool:
    try:
        check(ticket, key=key, holder=holder, now=now)
    except NotAllowed:
        return False
    return True


def mutants(good: str, rng: random.Random, count: int) -> list[str]:
    """Texts that differ from a good ticket by a small change or by a part of another good ticket."""
    others = [
        sign(KEY, ticket_payload(id_="cd" * 32)),
        sign(bytes(32), ticket_payload()),
        sign(KEY, ticket_payload(right=WRITE)),
    ]
    made: list[str] = []
    while len(made) < count:
        at = rng.randrange(len(good))
        other = rng.choice(others)
        text = rng.choice(
            [
                good[:at] + rng.choice(ALPHABET) + good[at + 1 :],
                good[:at],
                good[at:],
                good + rng.choice(ALPHABET + "=\n \0"),
                good[:at] + rng.choice("=\n .+/é") + good[at:],
                good[:at] + other[at:],
                good[:at] + good[at + 1 :],
                good.swapcase(),
                _flipped(good, rng),
                base64.b64encode(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))).decode() + "=",
                good * 2,
            ]
        )
        if text != good and text not in others:
            made.append(text)
    return made


def _flipped(good: str, rng: random.Random) -> str:
    raw = bytearray(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def count_accepted(count: int) -> int:
    rng = random.Random(1)
    accepted = 0
    # Lengths with 0, 2 and 4 unused bits in the last digit.
    for user in ("an", "ana", "anas"):
        accepted += sum(map(is_accepted, mutants(sign(KEY, ticket_payload(user=user)), rng, count // 3 + 1)))
    return accepted


def test_a_good_ticket_is_a_grant() -> None:
    grant = check(sign(KEY, ticket_payload(right=WRITE, user="ben")), key=KEY, holder=HOLDER, now=NOW)
    assert grant == (ID, Right.WRITE, REQUESTER, "ben")


@pytest.mark.parametrize("length", [1, 62, 63, 64])
def test_user_names_of_every_length_fit_a_ticket(length: int) -> None:
    assert check(sign(KEY, ticket_payload(user="u" * length)), key=KEY, holder=HOLDER, now=NOW).user == "u" * length


@pytest.mark.parametrize("granted", [READ, WRITE])
@pytest.mark.parametrize("wanted", [Right.READ, Right.WRITE])
def test_a_ticket_permits_its_right_only(granted: int, wanted: Right) -> None:
    grant = check(sign(KEY, ticket_payload(right=granted)), key=KEY, holder=HOLDER, now=NOW)
    if wanted == granted:
        require_right(grant, wanted)
    else:
        with pytest.raises(NotAllowed):
            require_right(grant, wanted)


def test_of_5000_mutated_tickets_none_is_accepted() -> None:
    assert count_accepted(5_000) == 0


@pytest.mark.long
def test_of_100000_mutated_tickets_none_is_accepted() -> None:
    assert count_accepted(100_000) == 0


@pytest.mark.parametrize("spare", range(64))
def test_only_the_canonical_encoding_of_the_last_digit_is_accepted(spare: int) -> None:
    good = sign(KEY, ticket_payload(user="an"))
    assert len(good) % 4 != 0
    assert is_accepted(good[:-1] + ALPHABET[spare]) == (ALPHABET[spare] == good[-1])


def test_a_ticket_expires_after_its_time_and_the_clock_tolerance() -> None:
    ticket = sign(KEY, ticket_payload())
    assert is_accepted(ticket, now=NOW + 300 + CLOCK_TOLERANCE)
    assert not is_accepted(ticket, now=NOW + 301 + CLOCK_TOLERANCE)


@pytest.mark.parametrize(
    "ticket",
    [
        sign(bytes(32), ticket_payload()),
        sign(KEY, ticket_payload(holder="f" * 32)),
        sign(KEY, ticket_payload(version=2)),
        sign(KEY, ticket_payload(right=0)),
        sign(KEY, ticket_payload(right=3)),
        sign(KEY, ticket_payload()[:-4]),
        sign(KEY, b""),
        sign(b"", ticket_payload()),
        "",
        "=",
        "é",
        "A" * 10_000,
    ],
)
def test_any_other_text_is_refused(ticket: str) -> None:
    assert not is_accepted(ticket)


def test_the_key_or_holder_of_another_session_is_refused() -> None:
    assert not is_accepted(sign(KEY, ticket_payload()), key=bytes(32))
    assert not is_accepted(sign(KEY, ticket_payload()), holder="f" * 32)


def test_the_rights_are_distinct() -> None:
    assert check(sign(KEY, ticket_payload(right=READ)), key=KEY, holder=HOLDER, now=NOW).right is Right.READ
