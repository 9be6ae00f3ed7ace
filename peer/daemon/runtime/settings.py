"""The settings of a pserver, read from its env file and checked once, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.env_file import EnvReader, find_env_file
from common.home_folder import NO_HOME
from common.state_files import default_shared_dir, default_state_dir
from daemon.runtime import tracker_address

# Seconds without a write after which the unfinished file of a download or push is deleted.
DEFAULT_PART_KEEP = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The env file of a pserver. Rates are in bytes per second, sizes in bytes, times in seconds."""

    # PSERVER_URL: the host that other peers dial; PSERVER_LOCAL_URL: the address to listen on; the port of both, 0 for
    # any free one.
    announced_host: str
    listen_host: str
    port: int
    # What the tracker's routes are below, for example `http://127.0.0.1:5000`.
    tracker_url: str
    shared_dir: Path
    state_dir: Path
    # None for a tenth of the free space at start.
    quota: int | None
    upload_limit: int | None
    download_limit: int | None
    # None for what the tracker asks for.
    ping_interval: float | None
    part_keep: float
    metrics_port: int | None
    log_format: str
    tls_cert: Path | None
    tls_key: Path | None
    # A file of certificates, or "system"; None to dial without TLS.
    tls_ca: Path | str | None

    @classmethod
    def from_env_file(cls, argument: str) -> Settings:
        """Read the env file that the command line names.

        Raises:
            EnvFault: with a line for each fault.
        """
        reader = EnvReader(find_env_file(argument), "pserver")
        port = reader.port("PSERVER_PORT")
        given_state_dir, given_shared_dir = reader.path_to("STATE_DIR", None), reader.path_to("SHARED_DIR", None)
        state_dir = given_state_dir or _default(reader, "STATE_DIR", default_state_dir(port or 0))
        shared_dir = given_shared_dir or _default(reader, "SHARED_DIR", default_shared_dir(port or 0))
        identity = reader.tls_identity()
        tls_ca = reader.tls_ca()
        settings = cls(
            announced_host=reader.host("PSERVER_URL"),
            listen_host=reader.host("PSERVER_LOCAL_URL"),
            port=port,
            tracker_url=_tracker_url(reader, tls=tls_ca is not None),
            shared_dir=shared_dir,
            state_dir=state_dir,
            quota=reader.size("QUOTA", None),
            upload_limit=_rate(reader, "UPLOAD_LIMIT"),
            download_limit=_rate(reader, "DOWNLOAD_LIMIT"),
            ping_interval=reader.seconds("PING_INTERVAL", None),
            part_keep=reader.seconds("PART_KEEP", DEFAULT_PART_KEEP),
            metrics_port=reader.port("METRICS_PORT", None),
            log_format=reader.choice("LOG_FORMAT", ("text", "json"), "text"),
            tls_cert=identity and identity[0],
            tls_key=identity and identity[1],
            tls_ca=tls_ca,
        )
        if port == 0 and given_state_dir is None:
            reader.fault("STATE_DIR", None, "given if PSERVER_PORT is 0: pclient finds the port there")
        if shared_dir and state_dir and _shared(state_dir.resolve(), shared_dir.resolve()):
            reader.fault("STATE_DIR", str(state_dir), "outside SHARED_DIR, because it contains secrets")
        reader.finish()
        return settings


def bracketed_host(host: str) -> str:
    """Return a host as it is written before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _shared(path: Path, shared_dir: Path) -> bool:
    """Return whether files in the folder `path` would be shared: hidden folders are not."""
    return path.is_relative_to(shared_dir) and not any(
        part.startswith(".") for part in path.relative_to(shared_dir).parts
    )


def _default(reader: EnvReader, key: str, folder: Path | None) -> Path:
    """Return the default folder of a key; after a fault None against its type, as a method of EnvReader does."""
    if folder is None and not reader.has(key):
        reader.fault(key, None, f"given, because {NO_HOME}")
    return folder  # type: ignore[return-value]


def _tracker_url(reader: EnvReader, *, tls: bool) -> str:
    port = reader.port("SERVER_PORT")
    if port == 0:
        reader.fault("SERVER_PORT", "0", "the tracker's port")

    def parse(text: str) -> str:
        try:
            return tracker_address.tracker_url(text, port, tls=tls)
        except tracker_address.SeveralAddresses:
            reader.fault("SERVER_URL", text, tracker_address.SHOULD_BE_ONE)
            return ""

    return reader.get("SERVER_URL", parse, tracker_address.SHOULD_BE)


def _rate(reader: EnvReader, key: str) -> int | None:
    limit = reader.size(key, None)
    if limit == 0:
        reader.fault(key, "0", "above 0, or omitted for no limit")
    return limit
