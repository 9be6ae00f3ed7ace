"""The env file."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tracker.settings import Settings, SettingsError

LEAST = "SERVER_URL=127.0.0.1\nSERVER_PORT=5000\n"


def read(folder: Path, text: str) -> Settings:
    path = folder / ".env_server"
    path.write_text(text)
    return Settings.from_env_file(path)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read(folder, text)
    return refused.value.faults


def test_two_keys_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    settings = read(tmp_path, LEAST)
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert (settings.open_registration, settings.ping_timeout, settings.advertise_check) == (True, 25.0, True)
    assert settings.state_dir.is_relative_to(tmp_path / "xdg")
    assert read(tmp_path, LEAST.replace("5000", "5001")).state_dir != settings.state_dir


def test_values_may_be_quoted_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '# a comment\n\nexport SERVER_URL=\'0.0.0.0\'\nSERVER_PORT="0"\nSTATE_DIR="a b"  # c\nOPEN_REGISTRATION=off\n',
    )
    assert (settings.host, settings.port, settings.open_registration) == ("0.0.0.0", 0, False)
    assert settings.state_dir == tmp_path / "a b"


def test_the_environment_overrides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "6000")
    monkeypatch.setenv("HERE", "x")
    assert read(tmp_path, LEAST + "STATE_DIR=${HERE}\n").state_dir.name == "${HERE}"
    assert read(tmp_path, LEAST).port == 5000


def test_all_faults_are_told_at_once_each_with_file_key_value_and_what_it_should_be(tmp_path: Path) -> None:
    text = (
        "SERVER_PORT=nope\nPING_TIMOUT=3\nOPEN_REGISTRATION=maybe\nTLS_CERT=missing.pem\nLOG_FORMAT=xml\nnot a pair\n"
    )
    text += "PING_TIMEOUT=0\n"
    told = faults(tmp_path, text)
    path = str(tmp_path / ".env_server")
    assert all(fault.startswith(f"{path}: ") for fault in told)
    for parts in (
        ("SERVER_URL", "missing"),
        ("SERVER_PORT", "'nope'", "0 to 65535"),
        ("PING_TIMOUT", "'3'", "PING_TIMEOUT?"),
        ("OPEN_REGISTRATION", "'maybe'", "true or false"),
        ("TLS_CERT", "'missing.pem'", "file"),
        ("TLS_CERT and TLS_KEY",),
        ("LOG_FORMAT", "'xml'", "text or json"),
        ("PING_TIMEOUT", "'0'", "seconds"),
        ("line 6",),
    ):
        assert any(all(part in fault for part in parts) for fault in told), parts


@pytest.mark.parametrize("port", ["", "-1", "65536", "5000x", "٣", "1e3", "99999999999999999999"])
def test_a_port_is_a_port(tmp_path: Path, port: str) -> None:
    assert len(faults(tmp_path, f"SERVER_URL=127.0.0.1\nSERVER_PORT={port}\n")) == 1


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x", "86401"])
def test_seconds_are_seconds(tmp_path: Path, seconds: str) -> None:
    assert len(faults(tmp_path, f"{LEAST}PING_TIMEOUT={seconds}\n")) == 1


def test_a_key_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    assert "twice" in faults(tmp_path, LEAST + "SERVER_PORT=5001\n")[0]


def test_a_file_that_is_not_there_or_not_text_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such env file"):
        Settings.from_env_file(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        Settings.from_env_file(tmp_path / "binary")


def test_an_empty_value_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    settings = read(tmp_path, LEAST + "STATE_DIR=\nPING_TIMEOUT=' '\nTLS_CERT=\nTLS_KEY=\n")
    assert settings == read(tmp_path, LEAST)
    assert "missing" in faults(tmp_path, "SERVER_URL=\nSERVER_PORT=1\n")[0]


@pytest.mark.parametrize("host", ["a..b", "h" * 64, "h" * 64 + ".org", "256.1.1.1", "a b", "http://x", "[::1", "-x"])
def test_an_address_to_listen_on_is_one(tmp_path: Path, host: str) -> None:
    assert "SERVER_URL" in faults(tmp_path, f"SERVER_URL={host}\nSERVER_PORT=1\n")[0]


@pytest.mark.parametrize("host", ["localhost", "my-host.example.org.", "::1", "0.0.0.0"])
def test_a_name_or_an_address_may_be_listened_on(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, f"SERVER_URL={host}\nSERVER_PORT=1\n").host == host


@pytest.mark.parametrize("value", ["~nosuchuser/x", "a" * 300 + "/../x\0"])
def test_a_folder_that_cannot_be_named_is_a_fault(tmp_path: Path, value: str) -> None:
    assert "STATE_DIR" in faults(tmp_path, f"{LEAST}STATE_DIR={value}\n")[0]


def test_a_name_that_is_too_long_is_no_env_file_and_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such env file"):
        Settings.from_env_file(tmp_path / ("x" * 300))
    assert "TLS_CERT" in faults(tmp_path, f"{LEAST}TLS_CERT={'x' * 300}\n")[0]


def test_what_is_no_certificate_or_not_its_key_is_a_fault_of_that_key(tmp_path: Path) -> None:
    issued, other = (trustme.CA().issue_cert("127.0.0.1") for _ in range(2))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "other.pem"))
    (tmp_path / "text.pem").write_text("no certificate\n")
    locked = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    assert read(tmp_path, f"{LEAST}TLS_CERT=cert.pem\nTLS_KEY=key.pem\n").tls
    for cert, key, blamed in (
        ("text", "key", "TLS_CERT: 'text.pem'"),
        ("key", "key", "TLS_CERT: 'key.pem'"),
        ("cert", "text", "TLS_KEY: 'text.pem'"),
        ("cert", "other", "TLS_KEY: 'other.pem'"),
        ("cert", "locked", "TLS_KEY: 'locked.pem'"),
    ):
        assert blamed in faults(tmp_path, f"{LEAST}TLS_CERT={cert}.pem\nTLS_KEY={key}.pem\n")[0]
