"""Reads an env file key by key and collects all its faults. Reads nothing of the process environment but HOME.

The fault lines are worded as in peer/common/env_file.py, because all programs report the same fault with the same words
(tests/contract/test_environment_files.py). The tracker shares no code with the peer.
"""

import difflib
import ipaddress
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from tracker.home_folder import expand, home_folder, path_fault
from tracker.proxies import parse_networks

_BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

# Keys of the other programs (required, optional): their files are recognized when given to the tracker by mistake.
_PCLIENT_KEYS = frozenset({"PSERVER_URL", "PSERVER_PORT"}), frozenset({"STATE_DIR", "TLS_CA"})
_PSERVER_KEYS = (
    frozenset({"PSERVER_URL", "PSERVER_LOCAL_URL", "PSERVER_PORT", "SERVER_URL", "SERVER_PORT"}),
    frozenset(
        {
            "SHARED_DIR", "STATE_DIR", "QUOTA", "UPLOAD_LIMIT", "DOWNLOAD_LIMIT", "PING_INTERVAL", "METRICS_PORT",
            "LOG_FORMAT", "TLS_CERT", "TLS_KEY", "TLS_CA", "PART_KEEP",
        }
    ),
)  # fmt: skip
_OTHER_PROGRAMS = {"pclient": _PCLIENT_KEYS, "pserver": _PSERVER_KEYS}


class EnvFault(Exception):
    """An env file that cannot be used. `lines` has one fault each, with file, key, value and what it should be."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def find_env_file(argument: Path) -> Path:
    """Find the env file that a command line names: relative to the current folder, else to the checkout's bootstrap/.

    Raises:
        EnvFault: no such file.
    """
    try:
        here = [Path.cwd()]
    except FileNotFoundError:
        # The current folder was removed.
        here = []
    tried = [folder / argument for folder in (*here, _BOOTSTRAP)]
    for path in tried:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):
            # The name is too long or contains NUL, or a folder of it is not readable.
            continue
    looked_in = " and ".join(dict.fromkeys(str(path.parent) for path in tried))
    raise EnvFault(f"{argument}: no such env file (looked in {looked_in})")


class EnvReader:
    """One env file. Each method reads one key; `finish` raises all faults at once.

    A key is known if a method asked for it. A method with a default reads an optional key. After a fault a method
    returns None against its type, since `finish` raises before the value is used.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            EnvFault: the file cannot be read.
        """
        self.path = path
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
        """Record that `key` has an unusable `value`; None if the fault is not in the value."""
        shown = "" if value is None else f"{value!r} "
        self._faults.append(f"{self.path}: {key}: {shown}should be {should_be}")

    def has(self, key: str) -> bool:
        """Whether the file gives `key` a value; an empty one does not count."""
        return bool(self._values.get(key, "").strip())

    def get(self, key: str, parse: Callable[[str], Any], should_be: str, *default: Any) -> Any:
        """Read one key.

        Args:
            key: the key.
            parse: makes the value of its text; a ValueError is a fault.
            should_be: completes the sentence "KEY: 'value' should be ...".
            default: the value of a missing key; without it the key is required.
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

    def host(self, key: str) -> Any:
        """Read a host name or an IP address; an IPv6 address has no brackets in the result."""
        return self.get(key, _host, "a host name or an IP address, without http:// and without a port")

    def port(self, key: str) -> Any:
        """Read a port; 0 means any free one."""
        return self.get(key, _port, "a port, 0 to 65535")

    def seconds(self, key: str, default: float, maximum: float) -> Any:
        """Read an interval in seconds, above 0 and at most `maximum`; fractions are allowed."""

        def parse(text: str) -> float:
            if not _SECONDS.fullmatch(text) or not 0 < float(text) <= maximum:
                raise ValueError(text)
            return float(text)

        return self.get(key, parse, f"a number of seconds above 0 and at most {maximum:.0f}", default)

    def flag(self, key: str, default: bool) -> Any:
        """Read `true` or `false`; yes, on, 1, no, off and 0 are accepted too."""
        return self.get(key, _flag, "true or false", default)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> Any:
        """Read a word that has to be one of `choices`."""

        def parse(text: str) -> str:
            if text not in choices:
                raise ValueError(text)
            return text

        return self.get(key, parse, " or ".join(choices), default)

    def networks(self, key: str) -> Any:
        """Read IP addresses and networks, separated by commas; none for a missing key."""
        return self.get(key, parse_networks, "IP addresses or networks like 10.0.0.0/8, separated by commas", ())

    def path_to(self, key: str) -> Path | None:
        """Read a path, relative to the env file's folder, or to the user's after `~` or `$HOME`; None if missing."""
        folder, home = self.path.absolute().parent, home_folder()
        should_be = path_fault(self._values.get(key, "").strip(), home) or "a path"
        found: Path | None = self.get(key, lambda value: folder / expand(value, home), should_be, None)
        return found

    def tls_identity(self) -> tuple[Path, Path] | None:
        """Read TLS_CERT and TLS_KEY: the files of a certificate chain and its private key; None if not given."""
        certificate, private_key = self._readable_file("TLS_CERT"), self._readable_file("TLS_KEY")
        if certificate is None or private_key is None:
            if self.has("TLS_CERT") != self.has("TLS_KEY"):
                self.fault("TLS_CERT", None, "given together with TLS_KEY")
            return None
        if not _has_certificate(certificate):
            self.fault("TLS_CERT", str(certificate), "a certificate in PEM, with those that lead to its authority")
        elif not _belongs_to(private_key, certificate):
            self.fault("TLS_KEY", str(private_key), "the private key of TLS_CERT in PEM, without a password")
        return certificate, private_key

    def finish(self) -> None:
        """Check for unknown keys, after all known ones were read.

        Raises:
            EnvFault: the file has faults.
        """
        unknown = self._values.keys() - self._known
        if unknown:
            for program, (required, optional) in _OTHER_PROGRAMS.items():
                if required <= self._values.keys() <= required | optional:
                    raise EnvFault(f"{self.path}: this is a {program} env file; server needs its own")
        for key in [key for key in self._values if key in unknown]:
            near = difflib.get_close_matches(key.upper(), sorted(self._known), n=1, cutoff=0.6)
            suggestion = f"; did you mean {near[0]}?" if near else ""
            self._faults.append(f"{self.path}: {key}: {self._values[key]!r}: unknown key{suggestion}")
        if self._faults:
            raise EnvFault(*self._faults)

    def _readable_file(self, key: str) -> Path | None:
        found = self.path_to(key)
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


def _host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    # A name whose last label is a number is a mistyped address: 256.1.1.1.
    if len(host) > 253 or labels[-1].isdigit() or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(text)
    return host


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _belongs_to(private_key: Path, certificate: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The clients decide which key lengths they accept.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        # An empty password opens no encrypted key; without one OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, private_key, password="")
    except ssl.SSLError:
        return False
    return True
