"""A TLS handshake in memory whose client verifies as strictly as Python 3.13 does. Runs in any Python 3.

    python strict_handshake.py FOLDER HOST

FOLDER has ca.pem, cert.pem and key.pem; HOST is the name that the client dials.
"""

import ssl
import sys
from pathlib import Path


def handshake(folder: Path, host: str) -> None:
    """Complete a handshake between a client and a server.

    Raises:
        ssl.SSLError: if the client does not accept the certificate for this host.
    """
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


if __name__ == "__main__":
    handshake(Path(sys.argv[1]), sys.argv[2])
