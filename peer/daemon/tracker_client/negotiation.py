"""Which protocol this pserver and its tracker speak: the newest that both know. Sends nothing itself.

A tracker before 0.2.0 refuses a request with a field that it does not know. So nothing new is sent until the tracker
has said its release, and the tracker is asked again when another one may run in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from common.version import Release, incompatible_message, newest_common_protocol
from daemon.errors import BadUsage, Incompatible

P = ParamSpec("P")
T = TypeVar("T")

# The protocol that every tracker speaks that says nothing else.
_OLDEST = 1


class Negotiation:
    """The protocol of one tracker, as far as it is known."""

    def __init__(self, url: str) -> None:
        """Know nothing of the tracker at `url` yet."""
        self._url = url
        self.known = False
        # The newest that both speak; 1 until the tracker has said more.
        self.protocol = _OLDEST
        # That they have no protocol in common, one line for users; empty otherwise.
        self.fault = ""

    def forget(self) -> None:
        """Note that another release may run there now. Protocol and fault stay until the tracker says what it is."""
        self.known = False

    def learn(self, tracker: Release) -> None:
        """Note what the tracker says of itself.

        Raises:
            Incompatible: Both have no protocol in common.
        """
        protocol = newest_common_protocol(tracker)
        if not protocol:
            self.known = False
            self.fault = incompatible_message(f"the tracker at {self._url}", tracker, "this pserver")
        else:
            self.known, self.protocol, self.fault = True, protocol, ""
        self.require_compatible()

    def require_compatible(self) -> None:
        """Check that the tracker was not found incompatible.

        Raises:
            Incompatible: It was.
        """
        if self.fault:
            raise Incompatible(self.fault)


class Negotiator(Protocol):
    """What has a protocol and can ask for it again."""

    @property
    def protocol(self) -> int:
        """The protocol to speak now."""

    async def negotiate(self) -> None:
        """Ask the other side again."""


N = TypeVar("N", bound=Negotiator)


def renegotiating(
    request: Callable[Concatenate[N, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[N, P], Coroutine[Any, Any, T]]:
    """Decorator for a method whose request has fields of newer protocols.

    A tracker that was replaced by an older release refuses them as a bad request. Then the method asks for the protocol
    again, and runs once more if it has become an older one.
    """

    @wraps(request)
    async def with_renegotiation(client: N, /, *args: P.args, **kwargs: P.kwargs) -> T:
        before = client.protocol
        try:
            return await request(client, *args, **kwargs)
        except BadUsage:
            # The request may have negotiated itself.
            sent = max(before, client.protocol)
            if sent == _OLDEST:
                raise
            await client.negotiate()
            if client.protocol >= sent:
                raise
            return await request(client, *args, **kwargs)

    return with_renegotiation
