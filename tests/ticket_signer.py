"""Makes tickets as the .proto describes them, without the code of tracker or pserver."""

import base64
import hashlib
import hmac
import struct

READ, WRITE = 1, 2


def payload(
    *,
    holder: str,
    id_: str,
    right: int = READ,
    requester: str = "a" * 32,
    issued: float = 0,
    expires: float = 300,
    user: str = "ana",
    version: int = 1,
) -> bytes:
    """Return the signed part of a ticket.

    Args:
        holder, requester: peer ids, 32 hexadecimal digits.
        id_: id of the file, 64 hexadecimal digits.
        right: READ or WRITE.
        issued, expires: Unix seconds.
    """
    ends = struct.pack(">QQ", int(issued), int(expires))
    return bytes([version, right]) + bytes.fromhex(holder + requester + id_) + ends + user.encode()


def sign(key: bytes, content: bytes) -> str:
    """Return the text of a ticket: payload and signature in unpadded URL-safe base64."""
    mac = hmac.new(key, b"p2p-ticket-v1\0" + content, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(content + mac).decode().rstrip("=")
