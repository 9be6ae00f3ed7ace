"""Where a peer's folders lie when its env file does not say. Names folders, never makes them.

They follow the XDG base directory specification and differ by port, so that two peers of one user never share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def default_shared_dir(port: int, environment: Mapping[str, str], home: Path) -> Path:
    """The shared folder of the pserver on `port`: user data."""
    return _base_dir(environment.get("XDG_DATA_HOME"), home / ".local" / "share") / f"peer-{port}" / "shared"


def default_state_dir(port: int, environment: Mapping[str, str], home: Path) -> Path:
    """The state folder of the pserver on `port`: what should outlive it but is worth nothing elsewhere."""
    return _base_dir(environment.get("XDG_STATE_HOME"), home / ".local" / "state") / f"peer-{port}"


def _base_dir(value: str | None, otherwise: Path) -> Path:
    # The specification: "If an implementation encounters a relative path [...] it should consider the path invalid".
    return (Path(value) if value and Path(value).is_absolute() else otherwise) / "p2p"
