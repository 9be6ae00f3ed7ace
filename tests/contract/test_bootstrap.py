"""The scripts of bootstrap/: finding a Python, making certificates, drawing a terminal."""

import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from programs import TOP
from screen_capture import THEMES, TerminalScreen

SHIM = '#!/bin/sh\necho "pyenv: $0: command not found" >&2\nexit 127\n'
OLD = "#!/bin/sh\nexit 1\n"
WITHOUT_VENV = f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'
GOOD = f'#!/bin/sh\nexec {sys.executable} "$@"\n'


def find_python(folder: Path, **candidates: str) -> "subprocess.CompletedProcess[str]":
    """Run find_python of bootstrap/environment.sh with only these Pythons on PATH; python3_12 stands for python3.12."""
    for name, script in candidates.items():
        path = folder / name.replace("_", ".")
        path.write_text(script)
        path.chmod(0o755)
    return subprocess.run(
        [shutil.which("sh") or "sh", "-c", '. bootstrap/environment.sh; find_python; echo "$python"'],
        cwd=TOP,
        env={**os.environ, "P2P_PYTHON": "", "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_shim_that_fails_is_skipped(tmp_path: Path) -> None:
    found = find_python(tmp_path, python3_14=SHIM, python3_12=GOOD, python3=OLD)
    assert (found.returncode, found.stdout) == (0, "python3.12\n"), found


def test_a_python_without_venv_is_skipped_if_another_has_it(tmp_path: Path) -> None:
    found = find_python(tmp_path, python3_12=WITHOUT_VENV, python3_11=GOOD)
    assert (found.returncode, found.stdout) == (0, "python3.11\n"), found


@pytest.mark.parametrize(
    ("candidates", "advice"),
    [
        ({"python3_12": WITHOUT_VENV}, "sudo apt install python{}.{}-venv".format(*sys.version_info)),
        ({"python3": OLD}, "Python 3.11 or newer is needed"),
        ({}, "Python 3.11 or newer is needed"),
    ],
)
def test_a_missing_python_is_one_line_of_advice(tmp_path: Path, candidates: dict[str, str], advice: str) -> None:
    found = find_python(tmp_path, **candidates)
    assert found.returncode == 69, found
    [line] = found.stderr.splitlines()
    assert advice in line


def test_an_up_to_date_environment_is_used_as_it_is() -> None:
    script = '. bootstrap/environment.sh; find_python() { echo "looked"; exit 1; }; prepare; echo prepared'
    done = subprocess.run(["sh", "-c", script], cwd=TOP, capture_output=True, text=True, check=False)
    if not any((TOP / ".venv" / name).exists() for name in ("synced", "synced-dev")):
        pytest.skip("this environment was not made by bootstrap/test")
    assert done.stdout == "prepared\n", done


def make_certificates(folder: Path, *hosts: str) -> "subprocess.CompletedProcess[str]":
    script = TOP / "bootstrap" / "certificates.py"
    return subprocess.run(
        [sys.executable, script, "certs", *hosts], cwd=folder, capture_output=True, text=True, check=False
    )


def handshake(machine: Path, authority: Path, host: str) -> None:
    """Connect in memory to a server that has a machine's certificate, with the checks that Python 3.13 makes.

    Raises:
        ssl.SSLCertVerificationError: if the certificate is not accepted for `host`.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(machine / "cert.pem", machine / "key.pem")
    dialling = ssl.create_default_context(cafile=authority)
    dialling.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = dialling.wrap_bio(to_client, to_server, server_hostname=host)
    pending = [client, server]
    while pending:
        end = pending.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(end)


def test_certificates_satisfy_the_strict_checks_of_python_3_13(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, "203.0.113.1", "2001:db8::7,peer.example.org")
    assert made.returncode == 0, made
    authority = tmp_path / "certs" / "ca.pem"
    first, second = (tmp_path / "certs" / name for name in ("203.0.113.1", "2001:db8::7"))
    for host in ("203.0.113.1", "127.0.0.1", "localhost"):
        handshake(first, authority, host)
    for host in ("2001:db8::7", "peer.example.org", "127.0.0.1", "localhost"):
        handshake(second, second / "ca.pem", host)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"203\.0\.113\.2"):
        handshake(first, authority, "203.0.113.2")


def test_only_the_owner_can_read_a_private_key(tmp_path: Path) -> None:
    assert make_certificates(tmp_path, "203.0.113.1").returncode == 0
    certs = tmp_path / "certs"
    modes = {str(path.relative_to(certs)): stat.S_IMODE(path.stat().st_mode) for path in certs.rglob("*.*")}
    assert modes["ca.key"] == modes["203.0.113.1/key.pem"] == 0o600
    assert modes["ca.pem"] == modes["203.0.113.1/cert.pem"] == 0o644
    assert stat.S_IMODE(certs.stat().st_mode) == 0o700


def test_a_later_run_uses_the_authority_that_is_there(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    assert make_certificates(tmp_path, "203.0.113.1").returncode == 0
    authority, first = (certs / "ca.pem").read_bytes(), (certs / "203.0.113.1" / "cert.pem").read_bytes()
    assert make_certificates(tmp_path, "203.0.113.2").returncode == 0
    assert (certs / "ca.pem").read_bytes() == authority
    assert (certs / "203.0.113.1" / "cert.pem").read_bytes() == first
    handshake(certs / "203.0.113.2", certs / "ca.pem", "203.0.113.2")
    assert make_certificates(tmp_path, "203.0.113.1").returncode == 0, "this renews a certificate"
    assert (certs / "203.0.113.1" / "cert.pem").read_bytes() != first
    handshake(certs / "203.0.113.1", certs / "ca.pem", "203.0.113.1")


@pytest.mark.parametrize("host", ["203.0.113.777", "203.0.113.1:5000", "../x", "a/b", "", "a,,b", "fe80::1%eth0"])
def test_a_bad_host_is_one_line_and_nothing_is_made(tmp_path: Path, host: str) -> None:
    made = make_certificates(tmp_path, "203.0.113.1", host)
    assert (made.returncode, made.stdout) == (2, ""), made
    assert "should be an IP address or a host name" in made.stderr
    assert made.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_or_missing_authority_is_never_replaced(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    assert make_certificates(tmp_path, "203.0.113.1").returncode == 0
    key = (certs / "ca.key").read_bytes()
    (certs / "ca.key").write_bytes(key[:100])
    damaged = make_certificates(tmp_path, "203.0.113.1")
    (certs / "ca.key").unlink()
    missing = make_certificates(tmp_path, "203.0.113.1")
    for made in (damaged, missing):
        assert made.returncode == 2, made
        assert made.stderr.startswith("certificates: certs/ca."), made
        assert made.stderr.count("\n") == 1
    assert not (certs / "ca.key").exists()


def test_a_captured_screen_shows_what_a_terminal_would() -> None:
    screen = TerminalScreen()
    screen.feed("\x1b[?25l\x1b[1;32mana $\x1b[0m pclient files\r\nold line\r\nbar 10 %")
    screen.feed("\r\x1b[2K\x1b[1A\x1b[2Knew line\r\nbar 50 %\r\nend\x1b[?25h")
    assert screen.text() == "ana $ pclient files\nnew line\nbar 50 %\nend"


@pytest.mark.parametrize("theme", THEMES)
def test_a_drawing_loads_nothing_from_elsewhere(theme: str) -> None:
    screen = TerminalScreen()
    screen.feed("\x1b[1;32mana $\x1b[0m pclient files\r\n")
    drawing = screen.svg(theme, "pclient", 40)
    assert "@font-face" not in drawing
    assert "url(http" not in drawing
    assert "pclient&#160;files" in drawing
