"""Reads an env file and reports all its faults at once. Reads nothing of the process environment but HOME.

    reader = EnvReader(find_env_file(argument), "pserver")
    host, port = reader.host("SERVER_URL"), reader.port("SERVER_PORT")
    interval = reader.seconds("PING_INTERVAL", 10.0)
    reader.finish()                     # raises EnvFault, with one line for each fault

A key is known once a method has read it. A method with a default reads an optional key. The tracker shares no code with
the peer and words the same faults in the same way (tests/contract/test_environment_files.py).
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

from dotenv.parser import parse_stream

from common.home_folder import expand, home_folder, path_fault
from common.printable import printable

T = TypeVar("T")
D = TypeVar("D")

_BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MAX_SECONDS = 366 * 86_400.0
_MAX_BYTES = 1 << 62
# How similar an unknown key must be to a known one to be called a typo of it, from 0 to 1.
_SUGGESTION_CUTOFF = 0.6


class _Keys(NamedTuple):
    required: frozenset[str]
    optional: frozenset[str]


# The keys of each program's env file: they show that a program was given the file of another one.
_PROGRAMS = {
    "server": _Keys(
        frozenset(("SERVER_URL", "SERVER_PORT")),
        frozenset(
            (
                *("STATE_DIR", "OPEN_REGISTRATION", "PING_TIMEOUT", "ADVERTISE_CHECK", "LOG_FORMAT", "TLS_CERT"),
                *("TLS_KEY", "TRUSTED_PROXIES"),
            )
        ),
    ),
    "pserver": _Keys(
        frozenset(("PSERVER_URL", "PSERVER_LOCAL_URL", "PSERVER_PORT", "SERVER_URL", "SERVER_PORT")),
        frozenset(
            (
                *("SHARED_DIR", "STATE_DIR", "QUOTA", "UPLOAD_LIMIT", "DOWNLOAD_LIMIT", "PING_INTERVAL"),
                *("PART_KEEP", "METRICS_PORT", "LOG_FORMAT", "TLS_CERT", "TLS_KEY", "TLS_CA"),
            )
        ),
    ),
    "pclient": _Keys(frozenset(("PSERVER_URL", "PSERVER_PORT")), frozenset(("STATE_DIR", "TLS_CA"))),
}


class EnvFault(Exception):
    """An env file cannot be used. `lines` has one fault each: file, key, value and what the value should be."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def find_env_file(argument: str, folder: Path | None = None, bootstrap: Path = _BOOTSTRAP) -> Path:
    """Find the env file that a command line names.

    Args:
        argument: a path.
        folder: what a relative path is relative to first; None for the current folder.
        bootstrap: what it is relative to second.

    Raises:
        EnvFault: if there is no such file.
    """
    here = folder or _current_folder()
    tried = [each / argument for each in (here, bootstrap) if each is not None]
    for path in tried:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            # The name is too long or contains a NUL.
            continue
    where = printable(" and ".join(dict.fromkeys(str(path.parent) for path in tried)))
    gone = "; the current folder was removed" if here is None else ""
    raise EnvFault(f"{printable(argument)}: no such env file (looked in {where}{gone})")


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


class EnvReader:
    """One env file. Each method reads one key and collects its faults; `finish` raises them.

    After a fault a method returns None against its type, since `finish` raises before the value is used.
    """

    def __init__(self, path: Path, program: str) -> None:
        """Read the file.

        Args:
            path: the env file.
            program: the program that reads it: pserver or pclient.

        Raises:
            EnvFault: if the file cannot be read, or is not text.
        """
        self.path = path
        self._program = program
        self._faults: list[str] = []
        self._known: set[str] = set()
        self._values: dict[str, str] = {}
        try:
            with path.open(encoding="utf-8-sig") as file:
                bindings = list(parse_stream(file))
        except OSError as error:
            raise EnvFault(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise EnvFault(f"{path}: not UTF-8 text") from error
        for binding in bindings:
            if binding.error or (binding.key is not None and binding.value is None):
                self._faults.append(f"{path}: line {binding.original.line}: should be KEY=value")
            elif binding.key is not None and binding.value is not None:
                if binding.key in self._values:
                    self.fault(binding.key, binding.value, "given once only")
                self._values.setdefault(binding.key, binding.value)

    def fault(self, key: str, value: str | None, should_be: str) -> None:
        """Record a fault. Programs call this for rules of their own.

        Args:
            key: the key that has the fault.
            value: its value; None if the fault is not in the value.
            should_be: completes the sentence "KEY: 'value' should be ...".
        """
        shown = "" if value is None else f"{printable(value)!r} "
        self._faults.append(f"{self.path}: {printable(key)}: {shown}should be {should_be}")

    def has(self, key: str) -> bool:
        """Return whether `key` has a value; an empty one does not count."""
        return bool(self._values.get(key, "").strip())

    @overload
    def get(self, key: str, parse: Callable[[str], T], should_be: str) -> T: ...
    @overload
    def get(self, key: str, parse: Callable[[str], T], should_be: str, *default: D) -> T | D: ...
    def get(self, key: str, parse: Callable[[str], T], should_be: str, *default: D) -> T | D | None:
        """Return the value of a key.

        Args:
            key: the key.
            parse: converts its text; a ValueError is a fault.
            should_be: completes the sentence "KEY: 'value' should be ...".
            default: the value if the key is missing or empty; without it the key is required.
        """
        self._known.add(key)
        value = self._values.get(key, "").strip()
        if not value:
            if default:
                return default[0]
            self._faults.append(f"{self.path}: {key}: missing; should be {should_be}")
            return None
        try:
            return parse(value)
        except ValueError:
            self.fault(key, value, should_be)
            return None

    def host(self, key: str) -> str:
        """Return a host name or an IP address; an IPv6 address has no brackets."""
        return self.get(key, parse_host, "a host name or an IP address, without http:// and without a port")

    def port(self, key: str, *default: D) -> int | D:
        """Return a port; 0 means any free one."""
        return self.get(key, _port, "a port, 0 to 65535", *default)

    def size(self, key: str, *default: D) -> int | D:
        """Return bytes, or bytes per second; K, M and G are powers of 1024."""
        return self.get(key, _size, "a number of bytes such as 500000, 64K, 100M or 2.5G", *default)

    def seconds(self, key: str, *default: D) -> float | D:
        """Return an interval in seconds, above 0; fractions are allowed."""
        return self.get(key, _seconds, "a number of seconds above 0, such as 10 or 0.5", *default)

    def flag(self, key: str, *default: D) -> bool | D:
        """Return true or false."""
        return self.get(key, _flag, "true or false", *default)

    def choice(self, key: str, choices: tuple[str, ...], *default: D) -> str | D:
        """Return one of `choices`."""
        return self.get(key, _one_of(choices), " or ".join(choices), *default)

    def path_to(self, key: str, *default: D) -> Path | D:
        """Return an absolute path; a relative one starts at the env file's folder, `~` and `$HOME` at the user's."""
        folder, home = self.path.absolute().parent, home_folder()
        should_be = path_fault(self._values.get(key, "").strip(), home) or "a path"
        return self.get(key, lambda value: folder / expand(value, home), should_be, *default)

    def tls_ca(self, key: str = "TLS_CA") -> Path | str | None:
        """Return `system`, or a readable file of PEM certificates; None if the key is missing."""
        found = self.get(key, str, "a file of certificates, or system", None)
        if found is None or found == "system":
            return found
        path = self.readable_file(key)
        if path is not None and not _has_certificate(path):
            self.fault(key, str(path), "a file of certificates in PEM, or system")
        return path

    def tls_identity(self) -> tuple[Path, Path] | None:
        """Return the files of TLS_CERT and TLS_KEY; None if they are missing."""
        certificate, private_key = self.readable_file("TLS_CERT"), self.readable_file("TLS_KEY")
        if certificate is None or private_key is None:
            if self.has("TLS_CERT") != self.has("TLS_KEY"):
                self.fault("TLS_CERT", None, "given together with TLS_KEY")
            return None
        if not _has_certificate(certificate):
            self.fault("TLS_CERT", str(certificate), "a certificate in PEM, with those that lead to its authority")
        elif not _belongs_to(private_key, certificate):
            self.fault("TLS_KEY", str(private_key), "the private key of TLS_CERT in PEM, without a password")
        return certificate, private_key

    def readable_file(self, key: str) -> Path | None:
        """Return an existing, readable file; None if the key is missing, or after a fault."""
        found = self.path_to(key, None)
        if found is None:
            return None
        try:
            if found.is_file():
                found.open("rb").close()
                return found
            self.fault(key, str(found), "a file that exists")
        except OSError as error:
            self.fault(key, str(found), f"a file that can be read ({error.strerror})")
        return None

    def finish(self, *, unknown_keys_allowed: bool = False) -> None:
        """Check for unknown keys, after all known keys were read, and raise the faults.

        Args:
            unknown_keys_allowed: whether the file may have keys that were not read.

        Raises:
            EnvFault: if the file has a fault. A file of another program is one fault, not one for each key.
        """
        unknown = [key for key in self._values if key not in self._known]
        if unknown_keys_allowed and not self._faults:
            return
        other = self._other_program() if unknown else None
        if other is not None:
            own_first = (self._program, other) == ("pclient", "pserver")
            advice = "the pclient env file comes first" if own_first else f"{self._program} needs its own"
            raise EnvFault(f"{self.path}: this is a {other} env file; {advice}")
        for key in () if unknown_keys_allowed else unknown:
            near = difflib.get_close_matches(key.upper(), sorted(self._known), n=1, cutoff=_SUGGESTION_CUTOFF)
            suggestion = f"; did you mean {near[0]}?" if near else ""
            shown = f"{printable(key)}: {printable(self._values[key])!r}"
            self._faults.append(f"{self.path}: {shown}: unknown key{suggestion}")
        if self._faults:
            raise EnvFault(*self._faults)

    def _other_program(self) -> str | None:
        """Return the other program that has all keys of this file, and requires no more; None if there is none."""
        keys = self._values.keys()
        for program, (required, optional) in _PROGRAMS.items():
            if program != self._program and required <= keys <= required | optional:
                return program
        return None


# ------------------------------------------------------------------------- the text of one value; ValueError is a fault


def parse_host(text: str) -> str:
    """Return a host name or an IP address; brackets around an IPv6 address are removed.

    Raises:
        ValueError: The text is neither.
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    labels = bare.removesuffix(".").split(".")
    # A name whose last label is a number is a mistyped address: 256.1.1.1.
    if len(bare) > 253 or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(text)
    return bare


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if not found or (number := float(found[1]) * _UNITS[found[2].upper()]) > _MAX_BYTES:
        raise ValueError(text)
    return int(found[1]) * _UNITS[found[2].upper()] if found[1].isdigit() else int(number)


def _seconds(text: str) -> float:
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= _MAX_SECONDS or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        # ssl.SSLError is a subclass.
        return False
    return True


def _belongs_to(private_key: Path, certificate: Path) -> bool:
    """Return whether `private_key` is the PEM key of the first certificate in `certificate`, without a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The clients decide which key lengths they accept.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        # Without a password function OpenSSL would prompt on the terminal.
        context.load_cert_chain(certificate, private_key, password=lambda: "")
    except OSError:
        return False
    return True
