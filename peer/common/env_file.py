"""Reads an env file and finds all its faults at once. Knows no program's keys; never looks at the process environment.

    reader = EnvReader(find_env_file(argument))
    host, port = reader.host("SERVER_URL"), reader.port("SERVER_PORT")
    interval = reader.seconds("PING_INTERVAL", 10.0)
    reader.finish()                     # EnvFault, with a line for each fault, unless all was well

A key is known because it was asked for. A method with a default reads a key that may be missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, overload

from dotenv.parser import parse_stream

from common import env_values, tls_files
from common.printable import printable

T = TypeVar("T")
D = TypeVar("D")

_BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"


class EnvFault(Exception):
    """An env file that cannot be used; `lines` says why, one fault each: file, key, value and what it should be."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def find_env_file(argument: str, folder: Path | None = None, bootstrap: Path = _BOOTSTRAP) -> Path:
    """The env file that a command line means: in `folder` (or the current one), else in the checkout's bootstrap/.

    Raises:
        EnvFault: if there is none.
    """
    here = folder or _current_folder()
    tried = [each / argument for each in (here, bootstrap) if each is not None]
    for path in tried:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            # A name too long, or with a NUL in it: no such file.
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
    """One env file, asked key by key; gathers faults until `finish`."""

    def __init__(self, path: Path) -> None:
        """Read `path`; a file that cannot be read at all is the one fault that is raised here."""
        self.path = path
        self._faults: list[str] = []
        self._asked: set[str] = set()
        self._values: dict[str, str] = {}
        try:
            with path.open(encoding="utf-8-sig") as file:
                bindings = list(parse_stream(file))
        except OSError as error:
            raise EnvFault(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise EnvFault(f"{path}: is not a text in UTF-8") from error
        for binding in bindings:
            if binding.error:
                self._faults.append(f"{path}: line {binding.original.line}: should be KEY=value")
            elif binding.key is not None:
                self._take(binding.key, binding.value)

    def _take(self, key: str, value: str | None) -> None:
        if key in self._values:
            self.fault(key, value, "given once only")
        elif value is None:
            self.fault(key, None, "followed by = and a value")
            self._values[key] = ""
        else:
            self._values[key] = value

    def fault(self, key: str, value: str | None, should_be: str) -> None:
        """Note that `key` has a value that will not do; for rules that only the program knows, too."""
        shown = "" if value is None else f"{printable(value)!r} "
        self._faults.append(f"{self.path}: {printable(key)}: {shown}should be {should_be}")

    def has(self, key: str) -> bool:
        """Whether the file gives `key` a value."""
        return bool(self._values.get(key))

    @overload
    def get(self, key: str, parse: Callable[[str], T], should_be: str) -> T: ...
    @overload
    def get(self, key: str, parse: Callable[[str], T], should_be: str, *default: D) -> T | D: ...
    def get(self, key: str, parse: Callable[[str], T], should_be: str, *default: D) -> T | D | None:
        """The value of `key` as `parse` makes it; ValueError from `parse` is a fault.

        After a fault the answer is None whatever its type says: `finish` raises before anybody uses it.
        """
        self._asked.add(key)
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
        """A host name or an IP address (IPv6 without brackets)."""
        return self.get(key, env_values.host, "a host name or an IP address, without http:// and without a port")

    def port(self, key: str, *default: D) -> int | D:
        """A port, 0 for any free one."""
        return self.get(key, env_values.port, "a port, 0 to 65535", *default)

    def size(self, key: str, *default: D) -> int | D:
        """A number of bytes, or of bytes per second; K, M and G stand for powers of 1024."""
        return self.get(key, env_values.size, "a number of bytes such as 500000, 64K, 100M or 2.5G", *default)

    def seconds(self, key: str, *default: D) -> float | D:
        """An interval; fractions are allowed, 0 is not."""
        return self.get(key, env_values.seconds, "a number of seconds above 0, such as 10 or 0.5", *default)

    def flag(self, key: str, *default: D) -> bool | D:
        """True or false."""
        return self.get(key, env_values.flag, "true or false", *default)

    def choice(self, key: str, choices: tuple[str, ...], *default: D) -> str | D:
        """One of a few words."""
        return self.get(key, env_values.one_of(choices), " or ".join(choices), *default)

    def path_to(self, key: str, *default: D) -> Path | D:
        """An absolute path; a relative one counts from the env file's folder."""
        folder = self.path.absolute().parent
        return self.get(key, lambda value: env_values.path(value, folder), "a path", *default)

    def tls_ca(self, key: str = "TLS_CA") -> Path | str | None:
        """`system`, or a readable file of certificates; None if not given."""
        found = self.get(key, str, "a file of certificates, or system", None)
        if found is None or found == "system":
            return found
        path = self.readable_file(key)
        if path is not None and not tls_files.has_certificate(path):
            self.fault(key, str(path), "a file of certificates in PEM, or system")
        return path

    def tls_identity(self) -> tuple[Path, Path] | None:
        """The files of a certificate and of its private key; None if not given."""
        certificate, private_key = self.readable_file("TLS_CERT"), self.readable_file("TLS_KEY")
        if certificate is None or private_key is None:
            if self.has("TLS_CERT") != self.has("TLS_KEY"):
                self.fault("TLS_CERT", None, "given together with TLS_KEY")
            return None
        if not tls_files.has_certificate(certificate):
            self.fault("TLS_CERT", str(certificate), "a certificate in PEM, with those that lead to its authority")
        elif not tls_files.belongs_to(private_key, certificate):
            self.fault("TLS_KEY", str(private_key), "the private key of TLS_CERT in PEM, without a password")
        return certificate, private_key

    def readable_file(self, key: str) -> Path | None:
        """A file that is there and can be read; None after a fault, or if the key is not given."""
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

    def finish(self, *, others_allowed: bool = False) -> None:
        """Raise EnvFault if anything was wrong; a key that nobody asked for is wrong unless `others_allowed`."""
        for key in () if others_allowed else self._values:
            if key not in self._asked:
                near = difflib.get_close_matches(key.upper(), sorted(self._asked), n=1, cutoff=0)
                hint = f"; the nearest known one is {near[0]}" if near else ""
                shown = f"{printable(key)}: {printable(self._values[key])!r}"
                self._faults.append(f"{self.path}: {shown}: unknown key{hint}")
        if self._faults:
            raise EnvFault(*self._faults)
