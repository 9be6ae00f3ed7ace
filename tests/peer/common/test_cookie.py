"""Pclient and pserver prove that they know the cookie. A program without it learns nothing and proves nothing."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import cookie, state_files

COOKIE = bytes(range(32))
NONCE = bytes(range(100, 132))


def test_a_new_cookie_is_private_and_reads_back(tmp_path: Path) -> None:
    made = cookie.make_cookie(tmp_path)
    path = tmp_path / "cookie"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == made.hex()
    assert cookie.read_cookie(tmp_path) == made
    assert [found.name for found in tmp_path.iterdir()] == ["cookie"]


def test_each_start_makes_a_different_cookie(tmp_path: Path) -> None:
    assert cookie.make_cookie(tmp_path) != cookie.make_cookie(tmp_path)


def test_a_planted_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "cookie").symlink_to(victim)
    cookie.make_cookie(tmp_path)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "cookie").is_symlink()


def test_a_link_is_not_read(tmp_path: Path) -> None:
    cookie.make_cookie(tmp_path)
    (tmp_path / "cookie").rename(tmp_path / "elsewhere")
    (tmp_path / "cookie").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(state_files.UnsafeFile, match="is a link"):
        cookie.read_cookie(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o644])
def test_a_cookie_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    cookie.make_cookie(tmp_path)
    (tmp_path / "cookie").chmod(mode)
    with pytest.raises(state_files.UnsafeFile, match=f"accessible to other users .mode {mode:04o}, should be 0600"):
        cookie.read_cookie(tmp_path)


def test_a_file_without_a_cookie_is_refused(tmp_path: Path) -> None:
    state_files.write_private(tmp_path / "cookie", b"not a cookie")
    with pytest.raises(state_files.UnsafeFile, match="contains no cookie"):
        cookie.read_cookie(tmp_path)


def test_a_folder_in_place_of_the_cookie_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cookie").mkdir()
    with pytest.raises(state_files.UnsafeFile, match="not a regular file"):
        cookie.read_cookie(tmp_path)


def test_a_missing_cookie_means_that_no_pserver_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cookie.read_cookie(tmp_path)


def test_only_the_complete_cookie_matches() -> None:
    assert cookie.cookie_matches(COOKIE.hex(), COOKIE)
    assert not cookie.cookie_matches(COOKIE.hex()[:-1], COOKIE)
    assert not cookie.cookie_matches(COOKIE.hex().upper(), COOKIE)
    assert not cookie.cookie_matches("", COOKIE)
    assert not cookie.cookie_matches("é\ud800", COOKIE)


def test_the_proofs_are_those_of_the_protocol() -> None:
    shown = cookie.make_challenge(COOKIE, 5001, NONCE)
    expected = hmac.new(COOKIE, b"p2p-prove-pclient|5001|" + NONCE, hashlib.sha256).hexdigest()
    assert shown == f"{NONCE.hex()}.{expected}"
    assert cookie.check_challenge(shown, COOKIE, 5001) == NONCE
    answer = cookie.make_proof(COOKIE, 5001, NONCE)
    assert answer == hmac.new(COOKIE, b"p2p-prove-pserver|5001|" + NONCE, hashlib.sha256).digest()
    assert cookie.check_proof(answer, COOKIE, 5001, NONCE)


def test_a_proof_is_valid_for_one_port_one_nonce_and_one_direction() -> None:
    shown = cookie.make_challenge(COOKIE, 5001, NONCE)
    assert cookie.check_challenge(shown, COOKIE, 5002) is None
    assert cookie.check_challenge(shown, bytes(32), 5001) is None
    answer = cookie.make_proof(COOKIE, 5001, NONCE)
    assert not cookie.check_proof(answer, COOKIE, 5002, NONCE)
    assert not cookie.check_proof(answer, COOKIE, 5001, bytes(32))
    assert not cookie.check_proof(bytes.fromhex(shown[65:]), COOKIE, 5001, NONCE)


@given(st.text())
def test_a_malformed_challenge_is_refused(text: str) -> None:
    assert cookie.check_challenge(text, COOKIE, 5001) is None


def test_the_port_reads_back(tmp_path: Path) -> None:
    state_files.write_port(tmp_path, 43211)
    assert state_files.read_port(tmp_path) == 43211


@pytest.mark.parametrize("text", [b"", b"0", b"65536", b"-1", b"http", b"9" * 5000])
def test_a_file_without_a_port_is_refused(tmp_path: Path, text: bytes) -> None:
    state_files.write_private(tmp_path / "port", text)
    with pytest.raises(state_files.UnsafeFile):
        state_files.read_port(tmp_path)
