"""The images and docker-compose.yml, on a real engine: as README's "In containers" has people type it."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from programs import TOP
from system.launching import free_ports
from waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

MIB = 1 << 20


@dataclass(frozen=True)
class Compose:
    """docker compose for a project of this test's own, v2 or v1."""

    project: str
    environment: dict[str, str]

    def run(self, *words: str, typed: str | None = None, seconds: float = 300.0) -> "subprocess.CompletedProcess[str]":
        """Run a docker compose command; the caller looks at the exit status."""
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        tool = ["docker", "compose"] if plugin else ["docker-compose"]
        return subprocess.run(
            [*tool, "--project-name", self.project, "--profile", "third", *words],
            cwd=TOP,
            env={**os.environ, **self.environment},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def do(self, *words: str, typed: str | None = None) -> str:
        """Run a docker compose command that must go well; return what it printed."""
        done = self.run(*words, typed=typed)
        assert done.returncode == 0, done
        return done.stdout

    def pclient(self, peer: str, *words: str, typed: str | None = None) -> list[dict[str, Any]]:
        """Run a pclient command in a peer's container; it must go well."""
        said = self.do("exec", "-T", peer, "pclient", *words, "--json", typed=typed)
        return [json.loads(line) for line in said.splitlines()]

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        container = self.do("ps", "-a", "-q", service).strip()
        shown = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
        [found] = json.loads(shown)
        return dict(found)

    def healthy(self, *services: str) -> None:
        """Wait until every one of these is healthy; docker-compose v1 has no --wait."""

        def states() -> set[str]:
            return {self.inspect(service)["State"]["Health"]["Status"] for service in services}

        eventually(lambda: states() == {"healthy"}, 60, 0.5)

    def digest(self, peer: str, path: str) -> str:
        """SHA-256 of a file in a container."""
        return self.do("exec", "-T", peer, "sha256sum", path).split()[0]


@pytest.fixture
def compose() -> Iterator[Compose]:
    """A project that leaves nothing behind."""
    [port] = free_ports(1)
    made = Compose(f"p2ptest{secrets.token_hex(4)}", {"P2P_PORT": str(port)})
    yield made
    print(made.run("logs", "--no-color").stdout[-8000:])
    made.run("down", "--volumes", "--timeout", "2")


def test_two_peers_in_containers_share_and_survive(compose: Compose) -> None:
    compose.do("up", "--build", "--detach", "server", "peer1", "peer2")
    compose.healthy("server", "peer1", "peer2")
    for peer, user in (("peer1", "ana"), ("peer2", "ben")):
        [logged_in] = compose.pclient(peer, "login", user, "--password-stdin", typed="secret\n")
        assert logged_in == {"user": user, "registered": True}

    make = f"head -c {40 * MIB} /dev/urandom > /data/film.bin"
    compose.do("exec", "-T", "peer1", "sh", "-c", make)
    compose.pclient("peer1", "upload", "/data/film.bin", "--copies", "0")
    compose.do("restart", "server")
    compose.healthy("server")

    def downloaded(peer: str) -> bool:
        return compose.run("exec", "-T", peer, "pclient", "download", "film.bin", "--json").returncode == 0

    eventually(lambda: downloaded("peer2"), 30, 0.5)
    expected = compose.digest("peer1", "/data/film.bin")
    assert compose.digest("peer2", "/data/shared/film.bin") == expected

    compose.do("up", "--detach", "peer3")
    compose.healthy("peer3")
    compose.pclient("peer3", "login", "cid", "--password-stdin", typed="secret\n")
    compose.do("kill", "peer1")
    [got] = compose.pclient("peer3", "download", "film.bin")
    assert got["holders"] == ["peer2:5001"]
    assert compose.digest("peer3", "/data/shared/film.bin") == expected

    compose.do("down")
    compose.do("up", "--detach", "server", "peer1", "peer2")
    compose.healthy("server", "peer1", "peer2")
    [status] = compose.pclient("peer2", "status")
    assert status["user"] == "ben"
    assert compose.digest("peer2", "/data/shared/film.bin") == expected
    eventually(lambda: compose.pclient("peer1", "files")[0]["holders"] == 2, 30, 0.5)


def test_containers_stop_at_once_and_are_locked_down(compose: Compose) -> None:
    compose.do("up", "--build", "--detach", "server", "peer1", "peer2")
    compose.healthy("server", "peer1", "peer2")
    for service in ("server", "peer1"):
        found = compose.inspect(service)
        assert found["Config"]["User"] == "p2p"
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert compose.do("exec", "-T", service, "id", "-u").strip() == "10001"
        refused = compose.run("exec", "-T", service, "touch", "/app/x")
        assert refused.returncode != 0
    assert compose.do("exec", "-T", "peer1", "pclient", "--version").strip()
    menu = compose.run("exec", "-T", "peer1", "pclient", typed="ana\nsecret\n0\n")
    assert menu.returncode == 0, menu
    assert "Logged in as" in menu.stdout + menu.stderr

    for service in ("peer2", "peer1", "server"):
        began = time.monotonic()
        compose.do("stop", service)
        assert time.monotonic() - began < 4 + 2  # two seconds for the tool itself
        assert compose.inspect(service)["State"]["ExitCode"] == 0


def test_no_layer_of_an_image_holds_a_secret_or_an_index(compose: Compose) -> None:
    compose.do("build", "server", "peer1")
    for image in ("p2p-server", "p2p-peer"):
        history = subprocess.run(
            ["docker", "history", "--no-trunc", image], capture_output=True, text=True, check=True
        ).stdout.lower()
        assert "index-url" not in history
        assert "password" not in history
