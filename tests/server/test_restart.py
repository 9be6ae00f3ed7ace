"""The tracker on a real port, restarted."""

from pathlib import Path

import requests

from live_tracker import live_tracker


def test_sessions_survive_a_restart_on_the_same_port(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        port = tracker.port
        login = requests.post(
            f"{tracker.url}/login", json={"username": "ana", "password": "x", "url": "127.0.0.1:5001"}, timeout=5
        )
        assert login.status_code == 201
    with live_tracker(tmp_path, port=port) as tracker:
        token = login.json()["token"]
        ping = requests.put(
            f"{tracker.url}/ping",
            json={"epoch": login.json()["epoch"], "index_version": ""},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        assert ping.status_code == 200, "the session survives the restart"
        assert ping.json()["send_index"], "the tracker asks for the index that it lost"
