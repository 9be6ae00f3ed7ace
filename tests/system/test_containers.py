"""The images and docker-compose.yml, on a real engine, with the commands of docs/deployment.md."""

import functools
import json
import os
import re
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from ports import reserve_port
from programs import TOP

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

MIB = 1 << 20
SERVICES = ("server", "peer1", "peer2", "peer3")
SIZE = 40 * MIB
LIMIT = "3M"  # DOWNLOAD_LIMIT: a command in a container takes a second, and a download must last for several


def docker(*words: str) -> str:
    """Run a docker command that must succeed; return its output."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


@functools.cache
def compose_tool() -> tuple[str, ...]:
    """Return the command of Compose v2, or v1 if that is all there is."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ("docker", "compose") if plugin else ("docker-compose",)


@dataclass(frozen=True)
class Compose:
    """A Compose project of one test.

    Attributes:
        environment: variables for docker-compose.yml.
        override: a second Compose file, used if it exists.
    """

    project: str
    environment: dict[str, str]
    override: Path

    def run(self, *words: str, typed: str | None = None, seconds: float = 300.0) -> "subprocess.CompletedProcess[str]":
        """Run a docker compose command; the caller checks the exit status."""
        files = ["--file", "docker-compose.yml", *(["--file", str(self.override)] if self.override.exists() else [])]
        return subprocess.run(
            [*compose_tool(), "--project-name", self.project, *files, "--profile", "third", *words],
            cwd=TOP,
            env={**os.environ, **self.environment},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def do(self, *words: str, typed: str | None = None) -> str:
        """Run a docker compose command that must succeed; return its output."""
        done = self.run(*words, typed=typed)
        assert done.returncode == 0, done
        return done.stdout

    def pclient(self, peer: str, *words: str, typed: str | None = None) -> list[dict[str, Any]]:
        """Run a pclient command in a peer's container; must succeed."""
        said = self.do("exec", "-T", peer, "pclient", *words, "--json", typed=typed)
        return [json.loads(line) for line in said.splitlines()]

    @contextmanager
    def downloading(self, peer: str, name: str) -> "Iterator[Future[list[dict[str, Any]]]]":
        """Run a download during the block and wait for it at the end; the future has its objects."""
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(self.pclient, peer, "download", name)

    def partial_download(self, peer: str) -> dict[str, Any]:
        """Return a peer's download that has some bytes but not all, from `status`; empty if there is none."""
        [status] = self.pclient(peer, "status")
        downloads = [each for each in status["transfers"] if each["kind"] == "download"]
        return next((each for each in downloads if 0 < each["done"] < each["total"]), {})

    def limit_downloads(self, *peers: str) -> None:
        """Mount env files with a DOWNLOAD_LIMIT for these peers."""
        mounts = {}
        for peer in peers:
            env_file = self.override.with_name(f".env_{peer}")
            shipped = (TOP / "bootstrap" / "docker" / env_file.name).read_text()
            env_file.write_text(f"{shipped}DOWNLOAD_LIMIT={LIMIT}\n")
            mounts[peer] = {"volumes": [f"{env_file}:/etc/p2p/{env_file.name}:ro"]}
        self.override.write_text(json.dumps({"services": mounts}))  # JSON is YAML

    def inspect(self, service: str) -> dict[str, Any]:
        """Return `docker inspect` of a service's container."""
        container = self.do("ps", "-a", "-q", service).strip()
        [found] = json.loads(docker("inspect", container))
        return dict(found)

    def wait_until_healthy(self, *services: str) -> None:
        """Wait until all these services are healthy; docker-compose v1 has no --wait."""

        def states() -> set[str]:
            return {self.inspect(service)["State"]["Health"]["Status"] for service in services}

        eventually(lambda: states() == {"healthy"}, 120, 0.5)

    def holders(self, peer: str) -> list[int]:
        """Return the number of complete copies of each file in the network."""
        return [each["holders"] for each in self.pclient(peer, "files")]

    def digest(self, peer: str, path: str) -> str:
        """Return the SHA-256 of a file in a container."""
        return self.do("exec", "-T", peer, "sha256sum", path).split()[0]


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """A project whose containers and volumes are removed afterwards."""
    made = Compose(f"p2ptest{secrets.token_hex(4)}", {"P2P_PORT": str(reserve_port())}, tmp_path / "override.yml")
    yield made
    print(made.run("logs", "--no-color").stdout[-8000:])
    made.run("down", "--volumes", "--timeout", "2")


def test_downloads_in_containers_survive_a_restarted_tracker_and_a_killed_peer(compose: Compose) -> None:
    compose.limit_downloads("peer2", "peer3")
    compose.do("up", "--build", "--detach", *SERVICES)
    compose.wait_until_healthy(*SERVICES)
    for peer, user in (("peer1", "ana"), ("peer2", "ben"), ("peer3", "cid")):
        [logged_in] = compose.pclient(peer, "login", user, "--password-stdin", typed="secret\n")
        assert logged_in == {"user": user, "registered": True}

    compose.do("exec", "-T", "peer1", "sh", "-c", f"head -c {SIZE} /dev/urandom > /data/film.bin")
    expected = compose.digest("peer1", "/data/film.bin")
    compose.pclient("peer1", "upload", "/data/film.bin", "--copies", "0")

    with compose.downloading("peer2", "film.bin") as download:
        begun = eventually(lambda: compose.partial_download("peer2"), 30)
        compose.do("restart", "server")
        later = compose.partial_download("peer2")
        assert later, "the download had ended before the tracker was back"
        assert later["done"] > begun["done"]
        [got] = download.result()
    assert got["holders"] == ["peer1:5001"]
    assert compose.digest("peer2", "/data/shared/film.bin") == expected
    eventually(lambda: compose.holders("peer3") == [2], 30)  # the tracker has its index again

    def both_serve() -> bool:
        holders = compose.partial_download("peer3").get("holders", [])
        return {each["url"] for each in holders if each["bytes"] > 0} == {"peer1:5001", "peer2:5001"}

    with compose.downloading("peer3", "film.bin") as download:
        eventually(both_serve, 30)
        compose.do("kill", "peer1")
        assert compose.partial_download("peer3"), "the download had ended before peer1 was killed"
        [got] = download.result()
    assert sorted(got["holders"]) == ["peer1:5001", "peer2:5001"]
    assert compose.inspect("peer1")["State"]["Running"] is False
    assert compose.digest("peer3", "/data/shared/film.bin") == expected

    compose.do("down")
    compose.do("up", "--detach", "server", "peer1", "peer2")
    compose.wait_until_healthy("server", "peer1", "peer2")
    [status] = compose.pclient("peer2", "status")
    assert status["user"] == "ben"
    assert compose.digest("peer2", "/data/shared/film.bin") == expected
    eventually(lambda: compose.holders("peer1") == [2], 30)


def test_containers_are_locked_down_and_stop_cleanly(compose: Compose) -> None:
    compose.do("up", "--build", "--detach", "server", "peer1", "peer2")
    compose.wait_until_healthy("server", "peer1", "peer2")
    for service in ("server", "peer1"):
        found = compose.inspect(service)
        assert found["Config"]["User"] == "p2p"
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["HostConfig"]["CapDrop"] == ["ALL"]
        assert compose.do("exec", "-T", service, "id", "-u").strip() == "10001"
        refused = compose.run("exec", "-T", service, "touch", "/app/x")
        assert refused.returncode != 0
    assert compose.do("exec", "-T", "peer1", "pclient", "--version").strip()
    menu = compose.run("exec", "-T", "peer1", "pclient", typed="ana\nsecret\n0\n")
    assert menu.returncode == 0, menu
    assert "Logged in as" in menu.stdout + menu.stderr

    for service in ("peer2", "peer1", "server"):
        container = compose.inspect(service)["Id"]
        # Docker kills a container that does not stop within 10 s; its exit code is then 137.
        docker("stop", container)
        assert compose.inspect(service)["State"]["ExitCode"] == 0


def test_each_service_has_an_image_name_of_its_own(compose: Compose) -> None:
    # Engines with containerd's image store fail a second build of the same name with "already exists".
    names = re.findall(r"(?m)^ +image: (\S+)$", compose.do("config"))
    assert len(names) == len(set(names)) == len(SERVICES)


def test_the_base_image_is_configurable(compose: Compose) -> None:
    elsewhere = replace(compose, environment={**compose.environment, "BASE": "127.0.0.1:1/no-such-base"})
    for service in ("server", "peer1"):
        refused = elsewhere.run("build", service)
        assert refused.returncode != 0
        assert "127.0.0.1:1" in refused.stderr


def files_in_layers(image: str) -> set[str]:
    """Return all files in all layers of an image, also those that a later layer hides."""
    found: set[str] = set()
    saving = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    with saving, tarfile.open(fileobj=saving.stdout, mode="r|") as saved:
        for member in saved:
            layer = saved.extractfile(member)
            if layer is None:
                continue
            try:
                with tarfile.open(fileobj=layer, mode="r|*") as files:
                    found.update(each.name for each in files if each.isfile())
            except tarfile.ReadError:  # metadata, not a layer
                continue
    assert saving.returncode == 0
    return found


@pytest.mark.parametrize("program", ["server", "peer"])
def test_no_layer_of_an_image_contains_secrets_of_the_checkout(program: str, tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    for folder in ("server", "peer", "bootstrap/docker"):
        shutil.copytree(TOP / folder, tmp_path / folder)
        for place in ("", "state"):
            (tmp_path / folder / place).mkdir(exist_ok=True)
            (tmp_path / folder / place / f".env_peer_{secret}").touch()
            (tmp_path / folder / place / f"{secret}.pem").touch()
    for name in (".dockerignore", f"Dockerfile.{program}"):
        shutil.copy(TOP / name, tmp_path)

    image = f"p2ptest{secret}"
    docker("build", "--file", f"{tmp_path}/Dockerfile.{program}", "--tag", image, str(tmp_path))
    try:
        files = files_in_layers(image)
        history = docker("history", "--no-trunc", image).lower()
    finally:
        docker("rmi", image)
    assert f"app/{program}/{program.replace('peer', 'pserver')}.py" in files
    assert [name for name in files if secret in name] == []
    assert [name for name in files if name.startswith("data/")] == []
    assert "index-url" not in history
    assert "password" not in history
