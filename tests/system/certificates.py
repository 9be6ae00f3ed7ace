"""Real certificates for the loopback addresses, made in the test that needs them."""

from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificates:
    """Paths of an authority and of a certificate with its key (PKCS#8, as `openssl req` writes it)."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        """Write them into `folder`."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "127.0.0.2", "localhost")
        made = cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        authority.cert_pem.write_to_path(str(made.authority))
        made.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made.key.chmod(0o600)
        return made

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a gRPC client needs to trust them."""
        return grpc.ssl_channel_credentials(self.authority.read_bytes())
