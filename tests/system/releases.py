"""The programs of this release, and of the previous one, which the compatibility tests start beside them.

The previous release is unpacked from the history of this repository and runs with the packages of this one.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from programs import TOP

# The newest commit before 0.2.0: there was no release before that. At each release from then on this becomes the tag of
# the release before, for example "v0.2.0" in the commit that makes 0.3.0.
PREVIOUS_RELEASE = "fc784a176b9a4231237dcbcc753d6c591f93581b"


@dataclass(frozen=True)
class Release:
    """The programs in the checkout of one release."""

    top: Path

    @property
    def server(self) -> Path:
        """The launcher of the tracker."""
        return self.top / "server" / "server.py"

    @property
    def pserver(self) -> Path:
        """The launcher of the pserver."""
        return self.top / "peer" / "pserver.py"

    @property
    def pclient(self) -> Path:
        """The launcher of pclient."""
        return self.top / "peer" / "pclient.py"


THIS_RELEASE = Release(TOP)


def unpack(commit: str, folder: Path) -> Release:
    """Unpack a commit of this repository into an empty folder.

    Raises:
        subprocess.CalledProcessError: if the repository does not have the commit.
    """
    archive = subprocess.run(
        ["git", "-C", str(TOP), "archive", "--format=tar", commit, "server", "peer"], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return Release(folder)
