"""An env file is read without the process environment, and all its faults are reported at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from common.env_file import EnvFault, EnvReader, find_env_file
from system.certificates import Certificates


def reader(folder: Path, text: str, program: str = "pserver") -> EnvReader:
    path = folder / ".env_test"
    path.write_text(text)
    return EnvReader(path, program)


def test_the_current_folder_comes_first_then_bootstrap(tmp_path: Path) -> None:
    here, bootstrap = tmp_path / "here", tmp_path / "bootstrap"
    here.mkdir()
    bootstrap.mkdir()
    (bootstrap / ".env_a").touch()
    assert find_env_file(".env_a", here, bootstrap) == bootstrap / ".env_a"
    (here / ".env_a").touch()
    assert find_env_file(".env_a", here, bootstrap) == here / ".env_a"
    assert find_env_file(str(bootstrap / ".env_a"), here, bootstrap) == bootstrap / ".env_a"


def test_a_removed_current_folder_does_not_hide_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    (tmp_path / ".env_a").touch()
    assert find_env_file(str(tmp_path / ".env_a"), bootstrap=tmp_path / "bootstrap") == tmp_path / ".env_a"
    assert find_env_file(".env_a", bootstrap=tmp_path) == tmp_path / ".env_a"
    with pytest.raises(EnvFault, match=r"missing: no such env file \(looked in .*; the current folder was removed\)"):
        find_env_file("missing")


@pytest.mark.parametrize("argument", ["missing", "", "x" * 5000, "nul\0", "."])
def test_a_missing_file_is_one_clear_line(tmp_path: Path, argument: str) -> None:
    with pytest.raises(EnvFault, match="no such env file") as caught:
        find_env_file(argument, tmp_path, tmp_path)
    assert len(caught.value.lines) == 1


def test_every_kind_of_value(tmp_path: Path) -> None:
    env = reader(
        tmp_path,
        "# a comment\n"
        "HOST=localhost\nSIX='[::1]'\nPORT = \"5001\"\nQUOTA=2.5G\nLIMIT=64k # half of 128\nBYTES=1234\n"
        "EVERY=0.5\nOPEN=False\nFORMAT=json\nSHARED=files/mine\nABSOLUTE=/srv/files\nexport WORD=a${HOME}b\n",
    )
    assert env.host("HOST") == "localhost"
    assert env.host("SIX") == "::1"
    assert env.port("PORT") == 5001
    assert env.size("QUOTA") == 2560 << 20
    assert env.size("LIMIT") == 64 << 10
    assert env.size("BYTES") == 1234
    assert env.seconds("EVERY") == 0.5
    assert env.flag("OPEN") is False
    assert env.choice("FORMAT", ("text", "json")) == "json"
    assert env.path_to("SHARED") == tmp_path / "files" / "mine"
    assert env.path_to("ABSOLUTE") == Path("/srv/files")
    assert env.get("WORD", str, "a word") == "a${HOME}b"
    env.finish()


def test_a_missing_or_empty_key_has_its_default(tmp_path: Path) -> None:
    env = reader(tmp_path, "QUOTA=\n")
    assert env.size("QUOTA", None) is None
    assert env.seconds("PING_INTERVAL", 10.0) == 10.0
    assert not env.has("QUOTA")
    env.finish()


def test_the_process_environment_overrides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    env = reader(tmp_path, "PORT=2\nOTHER=$PORT\n")
    assert env.port("PORT") == 2
    assert env.get("OTHER", str, "a word") == "$PORT"


def test_all_faults_at_once_each_with_file_key_value_and_what_it_should_be(tmp_path: Path) -> None:
    env = reader(tmp_path, "PORT=70000\nHOST=http://a:1\nQOTA=5\nEVERY=0\nHALF\nPORT=1\nOPEN=perhaps\n= nothing\n")
    env.port("PORT")
    env.host("HOST")
    env.size("QUOTA", None)
    env.seconds("EVERY", 1.0)
    env.flag("OPEN", True)
    env.get("HALF", str, "a word", "")
    env.port("MISSING")
    with pytest.raises(EnvFault) as caught:
        env.finish()
    file = tmp_path / ".env_test"
    assert sorted(caught.value.lines) == sorted(
        (
            f"{file}: PORT: '70000' should be a port, 0 to 65535",
            f"{file}: PORT: '1' should be given once only",
            f"{file}: HOST: 'http://a:1' should be a host name or an IP address, without http:// and without a port",
            f"{file}: QOTA: '5': unknown key; did you mean QUOTA?",
            f"{file}: EVERY: '0' should be a number of seconds above 0, such as 10 or 0.5",
            f"{file}: line 5: should be KEY=value",
            f"{file}: OPEN: 'perhaps' should be true or false",
            f"{file}: line 8: should be KEY=value",
            f"{file}: MISSING: missing; should be a port, 0 to 65535",
        )
    )


def test_a_program_may_allow_unknown_keys(tmp_path: Path) -> None:
    env = reader(tmp_path, "PORT=1\nOTHER=2\n")
    assert env.port("PORT") == 1
    env.finish(unknown_keys_allowed=True)


PSERVER_FILE = "PSERVER_URL=a\nPSERVER_LOCAL_URL=b\nPSERVER_PORT=1\nSERVER_URL=c\nSERVER_PORT=2\n"
SERVER_FILE = "SERVER_URL=a\nSERVER_PORT=1\nPING_TIMEOUT=5\n"


@pytest.mark.parametrize(
    ("program", "text", "fault"),
    [
        ("pclient", PSERVER_FILE, "this is a pserver env file; the pclient env file comes first"),
        ("pclient", PSERVER_FILE + "QUOTA=1\n", "this is a pserver env file; the pclient env file comes first"),
        ("pclient", SERVER_FILE, "this is a server env file; pclient needs its own"),
        ("pserver", SERVER_FILE, "this is a server env file; pserver needs its own"),
    ],
)
def test_the_file_of_another_program_is_one_fault(tmp_path: Path, program: str, text: str, fault: str) -> None:
    env = reader(tmp_path, text, program)
    env.host("PSERVER_URL")
    env.port("PSERVER_PORT")
    assert faults(env) == [fault]


def test_a_file_with_a_key_of_no_program_is_not_taken_for_another_programs(tmp_path: Path) -> None:
    env = reader(tmp_path, SERVER_FILE + "QUX=1\n")
    assert "QUX: '1': unknown key" in faults(env)


def test_an_unlike_key_gets_no_suggestion(tmp_path: Path) -> None:
    env = reader(tmp_path, "PSERVER_PROT=1\nQUX=2\n")
    env.port("PSERVER_PORT", None)
    assert faults(env) == [
        "PSERVER_PROT: '1': unknown key; did you mean PSERVER_PORT?",
        "QUX: '2': unknown key",
    ]


def test_control_characters_of_a_value_do_not_reach_the_screen(tmp_path: Path) -> None:
    env = reader(tmp_path, "PORT='\x1b[2J'\n")
    env.port("PORT")
    with pytest.raises(EnvFault) as caught:
        env.finish()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fault"), [(b"PORT=\xff\xfe\n", "not UTF-8 text"), (None, "cannot be read: Is a directory")]
)
def test_an_unreadable_file_is_a_fault(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / ".env_test"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(EnvFault) as caught:
        EnvReader(path, "pserver")
    assert caught.value.lines == (f"{path}: {fault}",)


@pytest.mark.parametrize(
    "text", ["a b", "http://a", "a:1", "-a", "a..b", "1.2.3", "256.1.1.1", "a/b", "x" * 64, "[a", "é"]
)
def test_a_malformed_host_is_a_fault(tmp_path: Path, text: str) -> None:
    env = reader(tmp_path, f"HOST='{text}'\n")
    env.host("HOST")
    with pytest.raises(EnvFault):
        env.finish()


@pytest.mark.parametrize("text", ["-1", "1T", "K", "1 K", "0x10", "1e3", "nan", "inf", "9999999999G", "\u0661"])
def test_a_malformed_size_is_a_fault(tmp_path: Path, text: str) -> None:
    env = reader(tmp_path, f"SIZE={text}\n")
    env.size("SIZE")
    with pytest.raises(EnvFault):
        env.finish()


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9", "0.0", "1s", "99999999999"])
def test_a_malformed_interval_is_a_fault(tmp_path: Path, text: str) -> None:
    env = reader(tmp_path, f"EVERY={text}\n")
    env.seconds("EVERY")
    with pytest.raises(EnvFault):
        env.finish()


def faults(env: EnvReader) -> list[str]:
    """Return the faults, without the name of the file."""
    with pytest.raises(EnvFault) as caught:
        env.finish()
    return [line.removeprefix(f"{env.path}: ") for line in caught.value.lines]


def test_tls_ca_is_a_file_of_certificates_or_system(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    folder = made.key.parent
    assert reader(folder, "TLS_CA=system\n").tls_ca() == "system"
    assert reader(folder, "TLS_CA=ca.pem\n").tls_ca() == made.authority
    assert reader(folder, "\n").tls_ca() is None
    (folder / "empty.pem").touch()
    for name, should_be in (
        ("missing.pem", "a file that exists"),
        ("empty.pem", "a file of certificates in PEM, or system"),
        ("key.pem", "a file of certificates in PEM, or system"),
    ):
        env = reader(folder, f"TLS_CA={name}\n")
        env.tls_ca()
        assert faults(env) == [f"TLS_CA: '{folder / name}' should be {should_be}"]


def test_a_certificate_comes_with_its_own_key(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    folder = made.key.parent
    (folder / "other").mkdir()
    other = Certificates.make(folder / "other")
    (folder / "garbage.pem").write_bytes(b"\xff\0garbage")
    key = load_pem_private_key(made.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "locked.pem").write_bytes(locked)
    env = reader(folder, "TLS_CERT=cert.pem\nTLS_KEY=key.pem\n")
    assert env.tls_identity() == (made.certificate, made.key)
    env.finish()
    assert reader(folder, "\n").tls_identity() is None
    for certificate, private_key, named in (
        ("garbage.pem", "key.pem", "TLS_CERT"),
        ("key.pem", "cert.pem", "TLS_CERT"),
        ("cert.pem", "garbage.pem", "TLS_KEY"),
        ("cert.pem", str(other.key), "TLS_KEY"),
        ("cert.pem", "locked.pem", "TLS_KEY"),
        ("cert.pem", "", "TLS_CERT"),
        ("", "key.pem", "TLS_CERT"),
    ):
        env = reader(folder, f"TLS_CERT={certificate}\nTLS_KEY={private_key}\n")
        env.tls_identity()
        [line] = faults(env)
        assert line.startswith(f"{named}: ")


def test_a_file_without_read_permission_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch(mode=0o000)
    env = reader(tmp_path, "TLS_KEY=key.pem\n")
    us = os.geteuid()
    if us == 0:
        # Root reads everything.
        os.seteuid(65534)
    try:
        assert env.readable_file("TLS_KEY") is None
    finally:
        os.seteuid(us)
    assert faults(env) == [f"TLS_KEY: '{tmp_path / 'key.pem'}' should be a file that can be read (Permission denied)"]
