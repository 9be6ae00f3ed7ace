"""The settings of the tracker, their defaults, and their check. Changes nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

from tracker.env_file import EnvReader, find_env_file
from tracker.home_folder import NO_HOME, home_folder
from tracker.http_server import TlsFiles
from tracker.proxies import Network


@dataclass(frozen=True)
class Settings:
    """What the operator of a tracker sets in its env file.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        state_dir: folder of accounts, sessions and the secret.
        open_registration: whether a login creates the account of an unknown user.
        ping_timeout: seconds without a ping after which a peer counts as offline.
        advertise_check: whether an announced address must lead to where the login comes from.
        log_format: `text` or `json`.
        tls: certificate and key to listen with; None for plain HTTP.
        trusted_proxies: addresses of proxies whose X-Forwarded-For is believed.
    """

    host: str
    port: int
    state_dir: Path
    open_registration: bool = True
    ping_timeout: float = 25.0
    advertise_check: bool = True
    log_format: str = "text"
    tls: TlsFiles | None = None
    trusted_proxies: tuple[Network, ...] = ()

    @classmethod
    def from_env_file(cls, argument: Path) -> "Settings":
        """Read and check the env file that the command line names; paths in it are relative to its folder.

        Raises:
            EnvFault: with a line for each fault.
        """
        reader = EnvReader(find_env_file(argument))
        identity = reader.tls_identity()
        port = reader.port("SERVER_PORT")
        state_dir = reader.path_to("STATE_DIR") or default_state_dir(port or 0)
        if state_dir is None and not reader.has("STATE_DIR"):
            reader.fault("STATE_DIR", None, f"given, because {NO_HOME}")
        settings = cls(
            host=reader.host("SERVER_URL"),
            port=port,
            state_dir=state_dir or Path(),
            open_registration=reader.flag("OPEN_REGISTRATION", default=True),
            ping_timeout=reader.seconds("PING_TIMEOUT", 25.0, maximum=86_400),
            advertise_check=reader.flag("ADVERTISE_CHECK", default=True),
            log_format=reader.choice("LOG_FORMAT", ("text", "json"), "text"),
            tls=TlsFiles(*identity) if identity else None,
            trusted_proxies=reader.networks("TRUSTED_PROXIES"),
        )
        reader.finish()
        return settings


def default_state_dir(port: int) -> Path | None:
    """Where the state is kept unless STATE_DIR says otherwise; None if the user has no home folder.

    A folder of its own for each port.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    home = home_folder()
    # XDG base directory specification: a relative path is invalid and ignored.
    folder = Path(base) if base.startswith("/") else home and home / ".local" / "state"
    return folder and folder / "p2p" / f"tracker-{port}"
