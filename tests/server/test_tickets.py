"""Tickets, read here by a parser written from their description alone."""

import base64
import hashlib
import hmac
import struct
from pathlib import Path

from tracker_fixture import Peer, TrackerFixture, id_of


def read(ticket: str, key: bytes) -> tuple[int, int, str, str, str, int, int, str]:
    raw = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    assert base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == ticket, "one encoding only"
    payload, mac = raw[:-32], raw[-32:]
    assert hmac.new(key, b"p2p-ticket-v1\0" + payload, hashlib.sha256).digest() == mac
    version, right, holder, requester, file_id, issued, expires = struct.unpack(">BB16s16s32sQQ", payload[:82])
    return version, right, holder.hex(), requester.hex(), file_id.hex(), issued, expires, payload[82:].decode("ascii")


def key_of(peer: Peer) -> bytes:
    return bytes.fromhex(peer.login["ticket_key"])


def test_a_query_returns_read_tickets_and_an_upload_write_tickets(world: TrackerFixture) -> None:
    ana, bob = world.peer("ana", "127.0.0.1:5001"), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    query = bob.call("GET", "/query?name=a.txt").json
    upload = ana.call(
        "POST", "/upload", {"files": [{"name": "a.txt", "id": id_of("a.txt"), "size": 10}], "copies": 1}
    ).json
    assert query is not None and upload is not None
    now = int(world.parts.tracker.server_time())
    ana_id, bob_id, file_id = ana.login["peer_id"], bob.login["peer_id"], id_of("a.txt")
    to_read = read(query["files"][0]["holders"][0]["ticket"], key_of(ana))
    assert to_read == (1, 1, ana_id, bob_id, file_id, now, now + 300, "bob")
    to_write = read(upload["targets"][0]["ticket"], key_of(bob))
    assert to_write == (1, 2, bob_id, ana_id, file_id, now, now + 300, "ana")


def test_the_ticket_key_is_derived_from_the_session_and_ends_with_it(world: TrackerFixture, tmp_path: Path) -> None:
    ana = world.peer()
    master_key = (tmp_path / "state" / "secret").read_bytes()
    digest = hashlib.sha256(ana.login["token"].encode()).hexdigest()
    message = b"p2p-ticket-key-v1|" + ana.login["peer_id"].encode() + b"|" + digest.encode()
    assert hmac.new(master_key, message, hashlib.sha256).digest() == key_of(ana)
    assert key_of(world.peer()) != key_of(ana)


def test_server_time_advances_with_the_monotonic_clock(world: TrackerFixture) -> None:
    ana = world.peer()
    before = ana.ping()["server_time"]
    world.clock.advance(10)
    assert ana.ping()["server_time"] - before == 10
