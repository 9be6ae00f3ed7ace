"""What an operator may set: the env file, checked whole, every fault at once. Reads no environment, changes nothing."""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from tracker.serving import Tls


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
    tls: Tls | None = None

    @classmethod
    def from_env_file(cls, path: Path) -> "Settings":
        """Read and check an env file; paths in it are relative to it.

        Raises:
            SettingsError: with all faults.
        """
        found = find(path)
        values, faults = _read(found)
        reader = _Reader(found, values, faults)
        reader.refuse_unknown()
        host = reader.get("SERVER_URL", _host, "the address to listen on, such as 127.0.0.1 or 0.0.0.0")
        port = reader.get("SERVER_PORT", _port, "a port from 0 to 65535, 0 for any free one")
        state_dir = reader.get("STATE_DIR", reader.path, "a folder", default_state_dir(port if port is not None else 0))
        on_off = "true or false"
        open_registration = reader.get("OPEN_REGISTRATION", _flag, on_off, True)
        advertise_check = reader.get("ADVERTISE_CHECK", _flag, on_off, True)
        ping_timeout = reader.get("PING_TIMEOUT", _seconds, "seconds, more than 0 and at most 86400", 25.0)
        log_format = reader.get("LOG_FORMAT", _log_format, "text or json", "text")
        cert = reader.get("TLS_CERT", reader.file, "a readable file", None)
        key = reader.get("TLS_KEY", reader.file, "a readable file", None)
        if ("TLS_CERT" in values) != ("TLS_KEY" in values):
            faults.append(f"{found}: TLS_CERT and TLS_KEY go together: set both or neither")
        if faults:
            raise SettingsError(faults)
        tls = Tls(cert, key) if cert and key else None
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


def find(path: Path) -> Path:
    """The env file: relative to the current folder, then in the checkout's bootstrap/."""
    in_bootstrap = Path(__file__).resolve().parents[2] / "bootstrap" / path
    for candidate in (path, in_bootstrap):
        if candidate.is_file():
            return candidate.absolute()
    raise SettingsError([f"{path}: no such env file, neither from here ({Path.cwd()}) nor in {in_bootstrap.parent}"])


def default_state_dir(port: int) -> Path:
    """Under the XDG state folder, another for each port."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative values ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "p2p" / f"tracker-{port}"


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8") as file:
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

    def get(self, key: str, read: Callable[[str], Any], wanted: str, *default: Any) -> Any:
        """The value of a key; a fault, and None, if it is bad, or missing and without a default."""
        if key not in self._values:
            if not default:
                self._faults.append(f"{self._path}: {key}: is missing: set it to {wanted}")
                return None
            return default[0]
        try:
            return read(self._values[key])
        except ValueError:
            self._faults.append(f"{self._path}: {key}: {self._values[key]!r} is not {wanted}")
            return None

    def path(self, value: str) -> Path:
        if not value or "\0" in value:
            raise ValueError
        return (self._path.parent / Path(value).expanduser()).absolute()

    def file(self, value: str) -> Path:
        path = self.path(value)
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise ValueError
        return path


def _host(value: str) -> str:
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not host or not host.isascii() or any(c.isspace() or c in "/@?#[]" for c in host):
        raise ValueError
    if ":" in host and host.count(":") < 2:
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
