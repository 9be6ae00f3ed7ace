"""The address of this peer: what it announces, and what its session has at the tracker. No I/O.

They differ after a change of PSERVER_URL or of the port, until the next ping: the session follows its peer. With
PSERVER_URL=auto only the tracker knows the host, and each ping asks it.
"""

from __future__ import annotations

from daemon.runtime.settings import bracketed_host

# The value of PSERVER_URL, and the host of an announced address, for where the tracker sees this peer.
AUTO = "auto"
# The first protocol whose sessions follow their peers to another address.
MOVING_PROTOCOL = 2


class OwnAddress:
    """The announced address, and that of the session.

    Attributes:
        port: The port that this pserver listens on; known once it does.
        of_session: `host:port` at the tracker; empty while this peer is logged out.
    """

    def __init__(self, host: str) -> None:
        """Make an address that no session has.

        Args:
            host: PSERVER_URL: a host name, an IP address without brackets, or `auto`.
        """
        self._host = host
        self.port = 0
        self.of_session = ""

    @property
    def is_auto(self) -> bool:
        """Whether the tracker finds out the host."""
        return self._host == AUTO

    @property
    def announced(self) -> str:
        """What this peer announces: `host:port`, or `auto:port`."""
        return f"{bracketed_host(self._host)}:{self.port}"

    @property
    def shown(self) -> str:
        """The address for users: the session's, or else the announced one."""
        return self.of_session or self.announced

    @property
    def has_changed(self) -> bool:
        """Whether the session has another address than the announced one, as far as is known here."""
        return not self.is_auto and bool(self.of_session) and self.of_session != self.announced

    @property
    def in_ping(self) -> str | None:
        """What a ping announces; None if the session certainly has the right address."""
        return self.announced if self.is_auto or self.has_changed else None
