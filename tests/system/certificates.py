"""Real certificates for the loopback addresses, made in the test that needs them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from certificates import Authority, make_machine

HOSTS = ("127.0.0.1", "127.0.0.2")


@dataclass(frozen=True)
class Certificates:
    """Paths of an authority's certificate, and of a certificate with its key: what `bootstrap/certificates` makes."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def of_machine(cls, folder: Path) -> "Certificates":
        """The three files in the folder of one machine."""
        return cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        """Make them inside `folder`."""
        now = datetime.now(UTC)
        return cls.of_machine(make_machine(Authority.create(now), folder, HOSTS, now))

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a gRPC client needs to trust them."""
        return grpc.ssl_channel_credentials(self.authority.read_bytes())
