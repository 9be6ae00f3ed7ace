"""What an operator may set: the env file, checked whole, every fault at once. Reads no environment, changes nothing."""

import difflib
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from tracker.http_server import TlsFiles

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class SettingsError(Exception):
    """Faults of an env file, a line each: file, key, value, what it should be."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Settings:
    """The tracker's settings, with the defaults."""

    host: str
    port: int
    state_dir: Path
    open_registration: bool = True
    ping_timeout: float = 25.0
    advertise_check: bool = True
    log_format: str = "text"
    tls: TlsFiles | None = None

    @classmethod
    def from_env_file(cls, path: Path) -> "Settings":
        """Read and check an env file; paths in it are relative to it.

        Raises:
            SettingsError: with all faults.
        """
        found = find_env_file(path)
        values, faults = _read(found)
        reader = _Reader(found, values, faults)
        reader.refuse_unknown()
        host = reader.get("SERVER_URL", _host, "the address to listen on, such as 127.0.0.1 or 0.0.0.0")
        port = reader.get("SERVER_PORT", _port, "a port from 0 to 65535, 0 for any free one")
        state_dir = reader.get("STATE_DIR", reader.path, "a folder", None) or default_state_dir(port or 0)
        on_off = "true or false"
        open_registration = reader.get("OPEN_REGISTRATION", _flag, on_off, True)
        advertise_check = reader.get("ADVERTISE_CHECK", _flag, on_off, True)
        ping_timeout = reader.get("PING_TIMEOUT", _seconds, "seconds, more than 0 and at most 86400", 25.0)
        log_format = reader.get("LOG_FORMAT", _log_format, "text or json", "text")
        cert = reader.get("TLS_CERT", reader.certificate, "a readable file with a certificate (PEM)", None)
        key_of = partial(reader.key_of, cert)
        key = reader.get("TLS_KEY", key_of, "a readable file with TLS_CERT's key (PEM, without a passphrase)", None)
        if reader.has("TLS_CERT") != reader.has("TLS_KEY"):
            faults.append(f"{found}: TLS_CERT and TLS_KEY go together: set both or neither")
        if faults:
            raise SettingsError(faults)
        tls = TlsFiles(cert, key) if cert and key else None
        return cls(host, port, state_dir, open_registration, ping_timeout, advertise_check, log_format, tls)


KEYS = (
    "SERVER_URL",
    "SERVER_PORT",
    "STATE_DIR",
    "OPEN_REGISTRATION",
    "PING_TIMEOUT",
    "ADVERTISE_CHECK",
    "LOG_FORMAT",
    "TLS_CERT",
    "TLS_KEY",
)


def find_env_file(path: Path) -> Path:
    """The env file: relative to the current folder, then in the checkout's bootstrap/."""
    in_bootstrap = Path(__file__).resolve().parents[2] / "bootstrap" / path
    for candidate in (path, in_bootstrap):
        try:
            if candidate.is_file():
                return candidate.absolute()
        except OSError:
            # A name that is too long, or a folder that may not be looked into: no such file.
            continue
    raise SettingsError([f"{path}: no such env file, neither from here ({Path.cwd()}) nor in {in_bootstrap.parent}"])


def default_state_dir(port: int) -> Path:
    """Under the XDG state folder, another for each port.

    Raises:
        SettingsError: nobody has told where this user's folders are.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative values ignored.
    try:
        root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        raise SettingsError(["STATE_DIR: is missing, and this user has no home folder: set it to a folder"]) from None
    return root / "p2p" / f"tracker-{port}"


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError([f"{path}: cannot be read: {reason}"]) from error
    for binding in bindings:
        if binding.error:
            faults.append(f"{path}: line {binding.original.line}: not KEY=value: {binding.original.string.strip()!r}")
        elif binding.key is not None and binding.value is None:
            faults.append(f"{path}: {binding.key}: has no value: write {binding.key}=value")
        elif binding.key is not None and binding.key in values:
            faults.append(f"{path}: {binding.key}: is there twice: keep one")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values, faults


class _Reader:
    def __init__(self, path: Path, values: Mapping[str, str], faults: list[str]) -> None:
        self._path = path
        self._values = values
        self._faults = faults

    def refuse_unknown(self) -> None:
        for key, value in self._values.items():
            if key not in KEYS:
                near = difflib.get_close_matches(key.upper(), KEYS, 1, 0.0)
                self._faults.append(f"{self._path}: {key}: unknown key (value {value!r}): did you mean {near[0]}?")

    def has(self, key: str) -> bool:
        """Whether the file gives the key a value; an empty one is none."""
        return bool(self._values.get(key, "").strip())

    def get(self, key: str, read: Callable[[str], Any], wanted: str, *default: Any) -> Any:
        """The value of a key; a fault, and None, if it is bad, or missing and without a default."""
        if not self.has(key):
            if not default:
                self._faults.append(f"{self._path}: {key}: is missing: set it to {wanted}")
                return None
            return default[0]
        try:
            return read(self._values[key].strip())
        except ValueError:
            self._faults.append(f"{self._path}: {key}: {self._values[key]!r} is not {wanted}")
            return None

    def path(self, value: str) -> Path:
        if "\0" in value:
            raise ValueError
        try:
            return (self._path.parent / Path(value).expanduser()).absolute()
        except RuntimeError as error:
            # ~ of a user who is not there.
            raise ValueError from error

    def file(self, value: str) -> Path:
        path = self.path(value)
        try:
            readable = path.is_file() and os.access(path, os.R_OK)
        except OSError as error:
            raise ValueError from error
        if not readable:
            raise ValueError
        return path

    def certificate(self, value: str) -> Path:
        path = self.file(value)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        except ssl.SSLError as error:
            raise ValueError from error
        return path

    def key_of(self, certificate: Path | None, value: str) -> Path:
        path = self.file(value)
        if certificate is None:
            return path
        try:
            # A passphrase is nothing that could be asked for: an empty one opens no key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, path, password="")
        except ssl.SSLError as error:
            raise ValueError from error
        return path


def _host(value: str) -> str:
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    # A name whose last label is a number would be an address written wrongly: 256.1.1.1.
    if len(host) > 253 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError
    return host


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
        raise ValueError
    return int(value)


def _flag(value: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if value.lower() not in known:
        raise ValueError
    return known[value.lower()]


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= 86400:
        raise ValueError
    return seconds


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError
    return value
