"""A ticket opens what the tracker meant, for whom it meant, as long as it meant; no other text opens anything."""

import base64
import random

import pytest

from daemon.errors import NotAllowed
from daemon.tracker_client.tickets import CLOCK_TOLERANCE, Right, check, require_right
from ticket_signer import READ, WRITE, payload, sign

KEY = bytes(range(32))
HOLDER, ASKER, ID = "0" * 31 + "1", "0" * 31 + "2", "ab" * 32
NOW = 2_000_000_000.0
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def words(**changes: object) -> bytes:
    fixed: dict[str, object] = {"holder": HOLDER, "asker": ASKER, "id_": ID, "issued": NOW, "expires": NOW + 300}
    return payload(**{**fixed, **changes})  # type: ignore[arg-type]


def opens(ticket: str, *, key: bytes = KEY, holder: str = HOLDER, now: float = NOW) -> bool:
    try:
        check(ticket, key=key, holder=holder, now=now)
    except NotAllowed:
        return False
    return True


def mutants(good: str, rng: random.Random, count: int) -> list[str]:
    """Texts that are not the good one, each by one small change or by a mixture with another good one."""
    others = [sign(KEY, words(id_="cd" * 32)), sign(bytes(32), words()), sign(KEY, words(right=WRITE))]
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
    # Lengths that leave 0, 2 and 4 bits of the last digit unused.
    for user in ("an", "ana", "anas"):
        accepted += sum(map(opens, mutants(sign(KEY, words(user=user)), rng, count // 3 + 1)))
    return accepted


def test_a_good_ticket_says_what_it_allows() -> None:
    grant = check(sign(KEY, words(right=WRITE, user="ben")), key=KEY, holder=HOLDER, now=NOW)
    assert grant == (ID, Right.WRITE, ASKER, "ben")


@pytest.mark.parametrize("length", [1, 62, 63, 64])
def test_users_with_the_longest_names_have_tickets_too(length: int) -> None:
    assert check(sign(KEY, words(user="u" * length)), key=KEY, holder=HOLDER, now=NOW).user == "u" * length


@pytest.mark.parametrize("given", [READ, WRITE])
@pytest.mark.parametrize("wanted", [Right.READ, Right.WRITE])
def test_a_ticket_allows_what_it_says_and_nothing_else(given: int, wanted: Right) -> None:
    grant = check(sign(KEY, words(right=given)), key=KEY, holder=HOLDER, now=NOW)
    if wanted == given:
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
    good = sign(KEY, words(user="an"))
    assert len(good) % 4 != 0
    assert opens(good[:-1] + ALPHABET[spare]) == (ALPHABET[spare] == good[-1])


def test_it_ends_with_its_time_and_the_leeway() -> None:
    ticket = sign(KEY, words())
    assert opens(ticket, now=NOW + 300 + CLOCK_TOLERANCE)
    assert not opens(ticket, now=NOW + 301 + CLOCK_TOLERANCE)


@pytest.mark.parametrize(
    "ticket",
    [
        sign(bytes(32), words()),
        sign(KEY, words(holder="f" * 32)),
        sign(KEY, words(version=2)),
        sign(KEY, words(right=0)),
        sign(KEY, words(right=3)),
        sign(KEY, words()[:-4]),
        sign(KEY, b""),
        sign(b"", words()),
        "",
        "=",
        "é",
        "A" * 10_000,
    ],
)
def test_anything_else_opens_nothing(ticket: str) -> None:
    assert not opens(ticket)


def test_another_sessions_key_opens_nothing() -> None:
    assert not opens(sign(KEY, words()), key=bytes(32))
    assert not opens(sign(KEY, words()), holder="f" * 32)


def test_no_right_is_the_other() -> None:
    assert check(sign(KEY, words(right=READ)), key=KEY, holder=HOLDER, now=NOW).right is Right.READ
