"""The env file of a pserver: all its faults are reported at once, before anything starts."""

from pathlib import Path

import pytest

from common.env_file import EnvFault
from daemon.runtime.settings import Settings
from system.certificates import Certificates

GOOD = {
    "PSERVER_URL": "peer.example",
    "PSERVER_LOCAL_URL": "127.0.0.1",
    "PSERVER_PORT": "5001",
    "SERVER_URL": "127.0.0.1",
    "SERVER_PORT": "5000",
}


def read(folder: Path, **keys: str) -> Settings:
    path = folder / ".env_pserver"
    path.write_text("".join(f"{key}={value}\n" for key, value in {**GOOD, **keys}.items() if value != "-"))
    return Settings.from_env_file(str(path))


def test_optional_keys_have_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.tracker_url == "http://127.0.0.1:5000"
    assert (settings.port, settings.announced_host, settings.ping_interval) == (5001, "peer.example", None)
    assert settings.quota is None and settings.upload_limit is None
    assert "5001" in str(settings.shared_dir) and "5001" in str(settings.state_dir)


def test_every_key_is_read(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    folder = certificates.key.parent
    settings = read(
        folder,
        PSERVER_PORT="0",
        SERVER_URL="::1",
        SHARED_DIR="files",
        STATE_DIR="state",
        QUOTA="2G",
        UPLOAD_LIMIT="500K",
        DOWNLOAD_LIMIT="1M",
        PING_INTERVAL="0.5",
        METRICS_PORT="9100",
        LOG_FORMAT="json",
        TLS_CERT="cert.pem",
        TLS_KEY="key.pem",
        TLS_CA="ca.pem",
    )
    assert settings.tracker_url == "https://[::1]:5000"
    assert (settings.tls_cert, settings.tls_key, settings.tls_ca) == (
        certificates.certificate,
        certificates.key,
        certificates.authority,
    )
    assert settings.shared_dir == folder / "files"
    assert (settings.quota, settings.upload_limit, settings.download_limit) == (2 << 30, 500 << 10, 1 << 20)


@pytest.mark.parametrize(
    ("server_url", "tls", "url"),
    [
        ("tracker.example", False, "http://tracker.example:5000"),
        ("tracker.example", True, "https://tracker.example:5000"),
        ("tracker.example:81", True, "https://tracker.example:81"),
        ("::1", False, "http://[::1]:5000"),
        ("[::1]", False, "http://[::1]:5000"),
        ("[::1]:81", False, "http://[::1]:81"),
        ("http://tracker.example", True, "http://tracker.example:80"),
        ("https://tracker.example", False, "https://tracker.example:443"),
        ("HTTPS://tracker.example:8443/", False, "https://tracker.example:8443"),
        ("https://[2001:db8::7]/team/p2p/", False, "https://[2001:db8::7]:443/team/p2p"),
    ],
)
def test_the_trackers_address_is_a_host_a_host_with_a_port_or_a_url(
    tmp_path: Path, server_url: str, tls: bool, url: str
) -> None:
    assert read(tmp_path, SERVER_URL=server_url, **({"TLS_CA": "system"} if tls else {})).tracker_url == url


@pytest.mark.parametrize(
    "server_url",
    [
        *(
            "ftp://x",
            "http://",
            "http:///p2p",
            "https://x:0",
            "x:0",
            "x:70000",
            "x:",
            "x:http",
            "http://u:p@x",
            "x/p2p",
        ),
        *(
            "http://x?a=b",
            "http://x/a#b",
            "http://x/a b",
            "::1:5000:",
            "http://::1",
            "http://::1:80",
            "[::1",
            "256.1.1.1",
            "1:2:3",
        ),
    ],
)
def test_another_address_of_the_tracker_is_a_fault(tmp_path: Path, server_url: str) -> None:
    with pytest.raises(EnvFault) as fault:
        read(tmp_path, SERVER_URL=f"'{server_url}'")
    should_be = "should be a host, host:port or http(s)://host[:port][/path]"
    assert fault.value.lines == (f"{tmp_path}/.env_pserver: SERVER_URL: {server_url!r} {should_be}",)


def test_a_list_of_trackers_is_a_fault_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnvFault, match=r"SERVER_URL: 'a\.example,b\.example' should be one address; a list is not"):
        read(tmp_path, SERVER_URL="a.example,b.example")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"PSERVER_URL": "-"}, "PSERVER_URL"),
        ({"SERVER_PORT": "0"}, "SERVER_PORT"),
        ({"PSERVER_PORT": "0"}, "STATE_DIR"),
        ({"PSERVER_PORT": "70000"}, "PSERVER_PORT"),
        ({"UPLOAD_LIMIT": "0"}, "UPLOAD_LIMIT"),
        ({"TLS_CERT": "no/such.pem"}, "TLS_CERT"),
        ({"PSERVER_URL": "http://x"}, "PSERVER_URL"),
        ({"SHARED_DIR": "all", "STATE_DIR": "all/state"}, "STATE_DIR"),
        ({"QUOTE": "5G"}, "QUOTA"),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, keys: dict[str, str], named: str) -> None:
    with pytest.raises(EnvFault) as fault:
        read(tmp_path, **keys)
    assert any(named in line and ".env_pserver" in line for line in fault.value.lines)


def test_an_unusable_tls_file_is_reported_with_its_key(tmp_path: Path) -> None:
    folder = Certificates.make(tmp_path).key.parent
    (folder / "odd.pem").write_text("no certificate, no key\n")
    with pytest.raises(EnvFault) as fault:
        read(folder, SERVER_PORT="x", TLS_CERT="cert.pem", TLS_KEY="odd.pem", TLS_CA="odd.pem")
    keys = [line.split(": ")[1] for line in fault.value.lines]
    assert sorted(keys) == ["SERVER_PORT", "TLS_CA", "TLS_KEY"]


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(EnvFault) as fault:
        read(tmp_path, PSERVER_URL="-", SERVER_PORT="x", PING_INTERVAL="0", NONSENSE="1")
    assert len(fault.value.lines) == 4
