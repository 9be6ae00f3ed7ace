"""libtorrent as a contestant, run by a Python that has it: reads lines of JSON, writes one for each.

python torrent.py FOLDER ADDRESS
{"make": FILE}                  writes FILE.torrent: version 1, pieces of 1 MiB, no tracker
{"seed": TORRENT}               serves the file in FOLDER
{"fetch": TORRENT, "peers": []} downloads into FOLDER and serves; responds with the times of start and end
Every response has the port. It connects only to the given peers, without a tracker or DHT.
"""

import json
import os
import sys
import time
from pathlib import Path

import libtorrent as lt


def session(address: str) -> "lt.session":
    """Return a session with libtorrent's own settings for high performance."""
    settings = lt.high_performance_seed()
    settings.update(
        {
            "listen_interfaces": f"{address}:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "in_enc_policy": lt.enc_policy.pe_disabled,
            "out_enc_policy": lt.enc_policy.pe_disabled,
            "hashing_threads": 2,
            "aio_threads": 4,
            "alert_mask": 0,
        }
    )
    return lt.session(settings)


def make(path: Path) -> None:
    """Write a torrent beside a file."""
    storage = lt.file_storage()
    lt.add_files(storage, str(path))
    torrent = lt.create_torrent(storage, piece_size=1 << 20, flags=lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, str(path.parent))
    Path(f"{path}.torrent").write_bytes(lt.bencode(torrent.generate()))


def add(ses: "lt.session", torrent: str, folder: str, seeding: bool) -> "lt.torrent_handle":
    """Add a torrent to the session."""
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~lt.torrent_flags.auto_managed
    params.flags &= ~lt.torrent_flags.paused
    if seeding:
        params.flags |= lt.torrent_flags.seed_mode
    return ses.add_torrent(params)


def fetch(ses: "lt.session", torrent: str, folder: str, peers: list[list[object]]) -> dict[str, float]:
    """Download a file until it is complete and durable."""
    began = time.monotonic()
    handle = add(ses, torrent, folder, seeding=False)
    for address, port in peers:
        handle.connect_peer((address, port))
    while not handle.status().is_seeding:
        time.sleep(0.005)
    name = handle.torrent_file().files().file_path(0)
    fd = os.open(os.path.join(folder, name), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return {"began": began, "ended": time.monotonic()}


def main(folder: str, address: str) -> None:
    """Handle requests until stdin ends."""
    ses = session(address)
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, object] = {}
        if "make" in order:
            make(Path(order["make"]))
        elif "seed" in order:
            handle = add(ses, order["seed"], folder, seeding=True)
            while not handle.status().is_seeding:
                time.sleep(0.005)
        elif "fetch" in order:
            answer.update(fetch(ses, order["fetch"], folder, order["peers"]))
        print(json.dumps({**answer, "port": ses.listen_port()}), flush=True)
    # A regular exit of libtorrent takes seconds.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
