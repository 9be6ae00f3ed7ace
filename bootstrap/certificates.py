"""Makes a certificate authority and a certificate for each machine of a team.

    ./bootstrap/certificates FOLDER HOST...

FOLDER/ca.pem and FOLDER/ca.key are the authority. It is made once; later runs use the one that is there.
FOLDER/HOST/ gets ca.pem, cert.pem and key.pem: the three files that the machine HOST needs.

The extensions are those that VERIFY_X509_STRICT of OpenSSL asks for (RFC 5280, 4.2.1), which Python 3.13 turns on.
"""

import argparse
import contextlib
import ipaddress
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
# Some programs refuse certificates that are valid for longer.
CERTIFICATE_DAYS = 825
# A certificate made now is also good for a machine whose clock is this late.
CLOCK_TOLERANCE = timedelta(days=1)
# A pclient and its pserver are on one machine and use these names.
OWN_MACHINE = ("127.0.0.1", "localhost")

_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)
_EXIT_USAGE = 2
_EXIT_DISK = 74


class CertificatesError(Exception):
    """A certificate could not be made. The message says what to do."""

    status = _EXIT_USAGE


class FilesFailed(CertificatesError):
    """A file could not be read or written."""

    status = _EXIT_DISK


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM (PKCS #8 without a password)."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Authority:
    """What signs certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, now: datetime) -> "Authority":
        """Make a new authority, valid for AUTHORITY_DAYS from `now`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("p2p certificate authority")
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> "Authority":
        """Read an authority that `create` made earlier.

        Raises:
            OSError: if a file cannot be read.
            CertificatesError: if a file is not what `create` wrote, or the two do not belong together.
        """
        try:
            loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = load_pem_private_key(key.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificatesError(
                f"{certificate} or {key} is damaged: restore both, or choose a new FOLDER"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != loaded.public_key():
            raise CertificatesError(f"{key} is not the key of {certificate}: restore both, or choose a new FOLDER")
        return cls(loaded, private)

    def files(self) -> Issued:
        """The authority's own certificate and key."""
        return Issued(self.certificate.public_bytes(Encoding.PEM), _pem(self.key))

    def issue(self, hosts: tuple[str, ...], now: datetime) -> Issued:
        """Make a certificate for one machine.

        Args:
            hosts: every IP address and host name by which the machine is dialled; the first is its name.
            now: the start of its CERTIFICATE_DAYS; it never outlives the authority.

        Raises:
            CertificatesError: if a host is neither an IP address nor a host name, or the authority has expired.
        """
        if now >= self.certificate.not_valid_after_utc:
            raise CertificatesError("the authority has expired: make a new one in a new FOLDER")
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        last = self.certificate.not_valid_after_utc
        certificate = (
            _builder(_name(hosts[0][:64]), self.certificate.subject, key.public_key(), now, CERTIFICATE_DAYS, last)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(own, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(certificate.public_bytes(Encoding.PEM), _pem(key))


def open_authority(folder: Path, now: datetime) -> tuple[Authority, bool]:
    """Return the authority in `folder`, and whether it was made just now.

    Raises:
        OSError: if a file cannot be read or written.
        CertificatesError: if only one of its two files is there, or they are damaged.
    """
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() != key.exists():
        missing = key if certificate.exists() else certificate
        raise CertificatesError(f"{missing} is missing: restore it, or choose a new FOLDER")
    if certificate.exists():
        return Authority.load(certificate, key), False
    authority = Authority.create(now)
    files = authority.files()
    write_private(key, files.key)
    write_public(certificate, files.certificate)
    return authority, True


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in one atomic step."""
    _write(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """Write a file that everyone can read, in one atomic step."""
    _write(path, content, 0o644)


def make_machine(authority: Authority, folder: Path, hosts: tuple[str, ...], now: datetime) -> Path:
    """Write the three files of one machine; return the folder that has them.

    Raises:
        OSError: if a file cannot be written.
        CertificatesError: if a host is neither an IP address nor a host name.
    """
    issued = authority.issue((*hosts, *OWN_MACHINE), now)
    machine = folder / hosts[0]
    machine.mkdir(mode=0o700, exist_ok=True)
    write_private(machine / "key.pem", issued.key)
    write_public(machine / "cert.pem", issued.certificate)
    write_public(machine / "ca.pem", authority.files().certificate)
    return machine


def main(arguments: list[str]) -> int:
    """Make the certificates; return the exit status."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder
    machines = [tuple(words.split(",")) for words in options.hosts]
    now = datetime.now(UTC)
    try:
        for host in (host for hosts in machines for host in hosts):
            _general_name(host)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, is_new = open_authority(folder, now)
        print(f"{'new' if is_new else 'existing'} authority: {folder / 'ca.pem'}; keep {folder / 'ca.key'} private")
        for hosts in machines:
            machine = make_machine(authority, folder, hosts, now)
            print(f"{', '.join(hosts)}: {machine}{os.sep} has ca.pem, cert.pem and key.pem")
    except OSError as error:
        return _report(FilesFailed(f"{error.filename}: {error.strerror}"))
    except CertificatesError as error:
        return _report(error)
    print("Copy each folder to its machine. Its env files then take TLS_CERT, TLS_KEY and TLS_CA.")
    return 0


def _report(error: CertificatesError) -> int:
    print(f"certificates: {error}", file=sys.stderr)
    return error.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bootstrap/certificates",
        description="Make TLS certificates for the machines of a team, and the authority that signs them.",
        epilog="The authority in FOLDER is made once. Run the command again to add machines or to renew certificates.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the authority is, or will be made")
    parser.add_argument(
        "hosts",
        nargs="+",
        metavar="HOST",
        help="a machine: the IP address or host name that other machines dial; several of one machine as A,B",
    )
    return parser


def _general_name(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if "%" not in host:
            return x509.IPAddress(address)
    # A host name never ends in a number: 203.0.113.777 is a mistyped address.
    if not _HOST_NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
        raise CertificatesError(f"{host!r} should be an IP address or a host name, without a port")
    return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
    last: datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(min(end, last) if last else end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
