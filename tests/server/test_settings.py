"""The tracker's env file: what it may say, and how its faults are reported."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tracker.env_file import EnvFault
from tracker.settings import Settings

REQUIRED = "SERVER_URL=127.0.0.1\nSERVER_PORT=5000\n"


def read(folder: Path, text: str) -> Settings:
    path = folder / ".env_server"
    path.write_text(text)
    return Settings.from_env_file(path)


def faults(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(EnvFault) as refused:
        read(folder, text)
    return refused.value.lines


def test_two_keys_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    settings = read(tmp_path, REQUIRED)
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert (settings.open_registration, settings.ping_timeout, settings.advertise_check) == (True, 25.0, True)
    assert settings.state_dir.is_relative_to(tmp_path / "xdg")
    assert read(tmp_path, REQUIRED.replace("5000", "5001")).state_dir != settings.state_dir


def test_values_may_be_quoted_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '# a comment\n\nexport SERVER_URL=\'0.0.0.0\'\nSERVER_PORT="0"\nSTATE_DIR="a b"  # c\nOPEN_REGISTRATION=off\n',
    )
    assert (settings.host, settings.port, settings.open_registration) == ("0.0.0.0", 0, False)
    assert settings.state_dir == tmp_path / "a b"


def test_the_environment_overrides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "6000")
    assert read(tmp_path, REQUIRED).port == 5000


def test_all_faults_are_reported_at_once_with_file_key_value_and_what_it_should_be(tmp_path: Path) -> None:
    text = (
        "SERVER_PORT=nope\nPING_TIMOUT=3\nOPEN_REGISTRATION=maybe\nTLS_CERT=missing.pem\nLOG_FORMAT=xml\nnot a pair\n"
    )
    text += "PING_TIMEOUT=0\n"
    found = faults(tmp_path, text)
    path = str(tmp_path / ".env_server")
    assert all(fault.startswith(f"{path}: ") for fault in found)
    for parts in (
        ("SERVER_URL", "missing"),
        ("SERVER_PORT", "'nope'", "0 to 65535"),
        ("PING_TIMOUT", "'3'", "PING_TIMEOUT?"),
        ("OPEN_REGISTRATION", "'maybe'", "true or false"),
        ("TLS_CERT", "missing.pem' should be a file that exists"),
        ("TLS_CERT", "given together with TLS_KEY"),
        ("LOG_FORMAT", "'xml'", "text or json"),
        ("PING_TIMEOUT", "'0'", "seconds"),
        ("line 6",),
    ):
        assert any(all(part in fault for part in parts) for fault in found), parts


@pytest.mark.parametrize("port", ["", "-1", "65536", "5000x", "٣", "1e3", "99999999999999999999"])
def test_an_invalid_port_is_a_fault(tmp_path: Path, port: str) -> None:
    assert len(faults(tmp_path, f"SERVER_URL=127.0.0.1\nSERVER_PORT={port}\n")) == 1


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x", "86401"])
def test_an_invalid_number_of_seconds_is_a_fault(tmp_path: Path, seconds: str) -> None:
    assert len(faults(tmp_path, f"{REQUIRED}PING_TIMEOUT={seconds}\n")) == 1


def test_a_key_given_twice_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, REQUIRED + "SERVER_PORT=5001\n") == (
        f"{tmp_path / '.env_server'}: SERVER_PORT: '5001' should be given once only",
    )


def test_a_key_without_a_value_is_a_fault_of_its_line(tmp_path: Path) -> None:
    assert faults(tmp_path, REQUIRED + "STATE_DIR\n") == (f"{tmp_path / '.env_server'}: line 3: should be KEY=value",)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("PING_TIMOUT", "; did you mean PING_TIMEOUT?"), ("QUX", ""), ("state_dir", "; did you mean STATE_DIR?")],
)
def test_an_unknown_key_gets_a_suggestion_if_a_known_one_is_close(tmp_path: Path, key: str, suggestion: str) -> None:
    assert faults(tmp_path, f"{REQUIRED}{key}=1\n") == (
        f"{tmp_path / '.env_server'}: {key}: '1': unknown key{suggestion}",
    )


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("pclient", ("PSERVER_URL", "PSERVER_PORT")),
        ("pserver", ("PSERVER_URL", "PSERVER_LOCAL_URL", "PSERVER_PORT", "SERVER_URL", "SERVER_PORT", "QUOTA")),
    ],
)
def test_the_env_file_of_another_program_is_recognized(tmp_path: Path, program: str, keys: tuple[str, ...]) -> None:
    path = tmp_path / ".env_server"
    assert faults(tmp_path, "".join(f"{key}=1\n" for key in keys)) == (
        f"{path}: this is a {program} env file; server needs its own",
    )


def test_a_missing_file_and_a_binary_file_are_one_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvFault, match="no such env file"):
        Settings.from_env_file(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(EnvFault, match="not UTF-8"):
        Settings.from_env_file(tmp_path / "binary")


def test_an_empty_value_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    settings = read(tmp_path, REQUIRED + "STATE_DIR=\nPING_TIMEOUT=' '\nTLS_CERT=\nTLS_KEY=\n")
    assert settings == read(tmp_path, REQUIRED)
    assert "missing" in faults(tmp_path, "SERVER_URL=\nSERVER_PORT=1\n")[0]


@pytest.mark.parametrize("host", ["a..b", "h" * 64, "h" * 64 + ".org", "256.1.1.1", "a b", "http://x", "[::1", "-x"])
def test_an_invalid_host_to_listen_on_is_a_fault(tmp_path: Path, host: str) -> None:
    assert "SERVER_URL" in faults(tmp_path, f"SERVER_URL={host}\nSERVER_PORT=1\n")[0]


@pytest.mark.parametrize("host", ["localhost", "my-host.example.org.", "::1", "0.0.0.0"])
def test_the_host_to_listen_on_may_be_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, f"SERVER_URL={host}\nSERVER_PORT=1\n").host == host


@pytest.mark.parametrize("value", ["~nosuchuser/x", "a" * 300 + "/../x\0"])
def test_an_impossible_path_is_a_fault(tmp_path: Path, value: str) -> None:
    assert "STATE_DIR" in faults(tmp_path, f"{REQUIRED}STATE_DIR={value}\n")[0]


def test_a_path_that_is_too_long_is_reported_as_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EnvFault, match="no such env file"):
        Settings.from_env_file(tmp_path / ("x" * 300))
    assert "TLS_CERT" in faults(tmp_path, f"{REQUIRED}TLS_CERT={'x' * 300}\n")[0]


def test_an_unusable_certificate_or_private_key_is_a_fault_of_that_key(tmp_path: Path) -> None:
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
    assert read(tmp_path, f"{REQUIRED}TLS_CERT=cert.pem\nTLS_KEY=key.pem\n").tls
    for cert, key, faulty_key, file in (
        ("text", "key", "TLS_CERT", "text.pem"),
        ("key", "key", "TLS_CERT", "key.pem"),
        ("cert", "text", "TLS_KEY", "text.pem"),
        ("cert", "other", "TLS_KEY", "other.pem"),
        ("cert", "locked", "TLS_KEY", "locked.pem"),
    ):
        [fault] = faults(tmp_path, f"{REQUIRED}TLS_CERT={cert}.pem\nTLS_KEY={key}.pem\n")
        assert f"{faulty_key}: '{tmp_path / file}' should be" in fault
