"""A pserver's env file, checked once. Every fault is found at the same time, before anything starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from common import xdg
from common.env_file import EnvReader, find_env_file


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of a peer decided. Rates in bytes per second, sizes in bytes, times in seconds."""

    # Address announced to others, address to listen on, port for both (0: any free one).
    announced_host: str
    listen_host: str
    port: int
    tracker_host: str
    tracker_port: int
    shared_dir: Path
    state_dir: Path
    # None: a tenth of the free space at start.
    quota: int | None
    upload_limit: int | None
    download_limit: int | None
    ping_interval: float
    metrics_port: int | None
    log_format: str
    tls_cert: Path | None
    tls_key: Path | None
    # A file of certificates, or "system"; None: no TLS when dialling.
    tls_ca: Path | str | None

    @classmethod
    def from_env_file(cls, argument: str) -> Settings:
        """Read the file that a command line means.

        Raises:
            EnvFault: with a line for each fault.
        """
        reader = EnvReader(find_env_file(argument))
        port = reader.port("PSERVER_PORT")
        given_state_dir = reader.path_to("STATE_DIR", None)
        identity = reader.tls_identity()
        environment, home = os.environ, Path.home()
        settings = cls(
            announced_host=reader.host("PSERVER_URL"),
            listen_host=reader.host("PSERVER_LOCAL_URL"),
            port=port,
            tracker_host=reader.host("SERVER_URL"),
            tracker_port=reader.port("SERVER_PORT"),
            shared_dir=reader.path_to("SHARED_DIR", xdg.default_shared_dir(port or 0, environment, home)),
            state_dir=given_state_dir or xdg.default_state_dir(port or 0, environment, home),
            quota=reader.size("QUOTA", None),
            upload_limit=_rate(reader, "UPLOAD_LIMIT"),
            download_limit=_rate(reader, "DOWNLOAD_LIMIT"),
            ping_interval=reader.seconds("PING_INTERVAL", 10.0),
            metrics_port=reader.port("METRICS_PORT", None),
            log_format=reader.choice("LOG_FORMAT", ("text", "json"), "text"),
            tls_cert=identity and identity[0],
            tls_key=identity and identity[1],
            tls_ca=reader.tls_ca(),
        )
        if port == 0 and given_state_dir is None:
            reader.fault("STATE_DIR", None, "given when PSERVER_PORT is 0: it is where the port can be found")
        if settings.shared_dir and _shared(settings.state_dir.resolve(), settings.shared_dir.resolve()):
            reader.fault("STATE_DIR", str(settings.state_dir), "outside SHARED_DIR: it holds this peer's secrets")
        if settings.tracker_port == 0:
            reader.fault("SERVER_PORT", "0", "the tracker's port")
        reader.finish()
        return settings

    @property
    def tracker_url(self) -> str:
        """Where the tracker's routes are."""
        scheme = "http" if self.tls_ca is None else "https"
        return f"{scheme}://{bracketed_host(self.tracker_host)}:{self.tracker_port}"


def bracketed_host(host: str) -> str:
    """Return a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _shared(path: Path, shared_dir: Path) -> bool:
    """Tell whether files at a path would be shared; what lies under a dot name is not."""
    return path.is_relative_to(shared_dir) and not any(
        part.startswith(".") for part in path.relative_to(shared_dir).parts
    )


def _rate(reader: EnvReader, key: str) -> int | None:
    limit = reader.size(key, None)
    if limit == 0:
        reader.fault(key, "0", "above 0, or left out for no limit")
    return limit
