"""The stored login session: private, written in one step, ignored if it is damaged."""

import dataclasses
import json
from pathlib import Path

import pytest

from daemon.models import Session
from daemon.tracker_client.session import SessionFile

SESSION = Session(
    user="ana",
    address="127.0.0.1:5001",
    token="t" * 43,
    peer_id="ab" * 16,
    ticket_key=b"k" * 32,
    clock_offset=-1.5,
    ping_interval=7.5,
)


def test_a_saved_session_is_loaded_again_and_private_to_its_user(tmp_path: Path) -> None:
    file = SessionFile(tmp_path)
    assert file.load() is None
    file.save(SESSION)
    assert SessionFile(tmp_path).load() == SESSION
    assert (tmp_path / "session").stat().st_mode & 0o777 == 0o600
    newer = dataclasses.replace(SESSION, clock_offset=7.0)
    file.save(newer)
    assert file.load() == newer
    assert [path.name for path in tmp_path.iterdir()] == ["session"]
    file.delete()
    file.delete()
    assert file.load() is None


def test_a_session_of_an_earlier_release_has_no_ping_interval(tmp_path: Path) -> None:
    file = SessionFile(tmp_path)
    file.save(SESSION)
    fields = json.loads((tmp_path / "session").read_text())
    del fields["ping_interval"]
    (tmp_path / "session").write_text(json.dumps(fields))
    assert file.load() == dataclasses.replace(SESSION, ping_interval=None)


def test_a_session_of_a_newer_release_is_loaded(tmp_path: Path) -> None:
    file = SessionFile(tmp_path)
    file.save(SESSION)
    fields = json.loads((tmp_path / "session").read_text())
    (tmp_path / "session").write_text(json.dumps({**fields, "audiences": ["all"], "addresses": {"private": None}}))
    assert file.load() == SESSION


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"user": "ana"}', b"x" * 10_000])
def test_a_damaged_file_is_ignored(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "session"
    path.write_bytes(content)
    path.chmod(0o600)
    assert SessionFile(tmp_path).load() is None
    assert "ignored" in caplog.text


def test_a_link_or_a_file_that_other_users_can_read_is_ignored(tmp_path: Path) -> None:
    file = SessionFile(tmp_path)
    file.save(SESSION)
    (tmp_path / "session").chmod(0o644)
    assert file.load() is None
    (tmp_path / "session").chmod(0o600)
    (tmp_path / "session").rename(tmp_path / "other")
    (tmp_path / "session").symlink_to(tmp_path / "other")
    assert file.load() is None
