"""What files of certificates and keys are good for, tried as TLS will use them. Opens no connection."""

from __future__ import annotations

import ssl
from pathlib import Path


def has_certificate(path: Path) -> bool:
    """Whether a file holds certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        # ssl.SSLError is one.
        return False
    return True


def belongs_to(private_key: Path, certificate: Path) -> bool:
    """Whether a file holds, in PEM, the private key of the first certificate of another; one with a password does not.

    Both are read: there is nobody to ask for a password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # How long a key must be is for those to judge who dial.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: "")
    except OSError:
        return False
    return True
