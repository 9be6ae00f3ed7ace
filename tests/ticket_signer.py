"""Tickets written by hand from the words of the .proto and the contract, without the code of either side."""

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
    """What is signed."""
    ends = struct.pack(">QQ", int(issued), int(expires))
    return bytes([version, right]) + bytes.fromhex(holder + requester + id_) + ends + user.encode()


def sign(key: bytes, content: bytes) -> str:
    """The text of a ticket with this payload."""
    mac = hmac.new(key, b"p2p-ticket-v1\0" + content, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(content + mac).decode().rstrip("=")
