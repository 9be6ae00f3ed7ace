"""An error crosses gRPC and is the same error on the other side. Text of another peer stays on one line."""

import asyncio
from typing import Any

import grpc
import pytest

from common.control_messages import HINT_KEY, Hint
from common.version import VERSION
from daemon import errors
from daemon.errors import Busy, NoHolders, PeerError
from daemon.protocol import status_codes


def subclasses(kind: type[PeerError]) -> list[type[PeerError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


ALL = subclasses(PeerError)


class Aborted(Exception):
    """A context raises it to end a call."""


class Context:
    """A context that keeps how its call was ended."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str], ...]) -> None:
        self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)
        raise Aborted


def received(error: PeerError) -> PeerError:
    """Return the error as the caller receives it."""
    context: Any = Context()
    with pytest.raises(Aborted):
        asyncio.run(status_codes.abort(context, error))
    return status_codes.error_from_rpc(context.error, "peer:1")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_comes_back_with_its_code(kind: type[PeerError]) -> None:
    there = received(kind("one line"))
    assert there.code == kind.code
    assert there.message == "peer:1: one line"


def test_the_table_has_every_error_and_no_other() -> None:
    assert set(status_codes.STATUS_OF) == set(ALL)


def test_a_code_names_the_most_general_error_that_has_it() -> None:
    for kind in ALL:
        assert issubclass(kind, status_codes.ERROR_OF_CODE[kind.code])


def test_a_hint_travels_in_trailing_metadata() -> None:
    assert (HINT_KEY, "log_in") in status_codes.trailing_metadata(errors.NotLoggedIn("not logged in"))
    assert (HINT_KEY, "repeat") in status_codes.trailing_metadata(NoHolders("none", hint=Hint.REPEAT))


def test_a_busy_peer_says_when_to_retry() -> None:
    assert (status_codes.RETRY_AFTER_KEY, "1.5") in status_codes.trailing_metadata(Busy("full", retry_after=1.5))
    assert status_codes.trailing_metadata(NoHolders("none")) == ((status_codes.CODE_KEY, "no_holders"),)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, NoHolders),
        (grpc.StatusCode.UNAUTHENTICATED, errors.NotAllowed),
        (grpc.StatusCode.PERMISSION_DENIED, errors.NotAllowed),
        (grpc.StatusCode.NOT_FOUND, errors.NoSuchFile),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Busy),
        (grpc.StatusCode.INTERNAL, NoHolders),
        (grpc.StatusCode.UNKNOWN, NoHolders),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Incompatible),
    ],
)
def test_a_status_without_our_code_still_names_an_error(status: grpc.StatusCode, kind: type[PeerError]) -> None:
    foreign = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(("p2p-code", "nonsense")), "words")
    assert type(status_codes.error_from_rpc(foreign, "peer:1")) is kind


def test_a_call_that_a_peer_does_not_know_names_the_side_to_upgrade() -> None:
    unknown = grpc.aio.AioRpcError(
        grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata(), "Method not found!"
    )
    assert status_codes.error_from_rpc(unknown, "peer:1").message == (
        f"peer:1: its pserver is older than this one (release {VERSION}) and does not know this call: upgrade it"
    )


def test_text_of_a_peer_becomes_one_bounded_line() -> None:
    hostile = "a\n" * 10_000 + "\r\x0b\x0c\u2028b"
    assert "\n" not in received(errors.NoSuchFile(hostile)).message
    assert len(status_codes.one_line(hostile)) <= 300
    assert status_codes.error_from_code("quota", hostile).message.count("\n") == 0
    assert type(status_codes.error_from_code("no such code", "x")) is PeerError
