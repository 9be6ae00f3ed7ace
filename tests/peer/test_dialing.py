"""A host is dialled at all its addresses, 250 ms apart, and the first that answers is used."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.tracker_client.dialing import ATTEMPT_DELAY, Address, dial, interleave, resolve
from silent_address import silent_address

# Longer than any of these tests takes where an address answers.
LONG = 60.0
# A state of /proc/net/tcp.
SYN_SENT = "02"


def addresses(*listeners: socket.socket) -> list[Address]:
    """The addresses of sockets, as a name server could return them."""
    return [
        Address(listener.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", listener.getsockname())
        for listener in listeners
    ]


def to(*listeners: socket.socket, timeout: float = LONG) -> socket.socket:
    """Dial a name with the addresses of these sockets."""
    return dial("name.example", 80, timeout, resolve=lambda host, port: addresses(*listeners))


def listening(stack: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family))


def closed(stack: ExitStack) -> socket.socket:
    """A socket whose address refuses connections."""
    refusing = stack.enter_context(socket.socket())
    refusing.bind(("127.0.0.1", 0))
    return refusing


def attempts(listener: socket.socket) -> int:
    """How many sockets of this machine have asked to connect to a silent address, and were not closed since."""
    remote = f":{listener.getsockname()[1]:04X}"
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    return sum(words[2].endswith(remote) and words[3] == SYN_SENT for words in lines)


@pytest.mark.ipv6
def test_an_address_that_answers_is_used_although_an_earlier_one_is_silent_address(stack: ExitStack) -> None:
    quiet, good = silent_address(stack, "::1"), listening(stack)
    began = time.monotonic()
    with to(quiet, good) as connected:
        assert ATTEMPT_DELAY <= time.monotonic() - began < LONG / 2
        assert connected.getpeername() == good.getsockname()
        assert connected.gettimeout() == LONG


def test_an_address_that_refuses_delays_nothing(stack: ExitStack) -> None:
    good = listening(stack)
    refusing = [closed(stack) for _ in range(200)]
    began = time.monotonic()
    with to(*refusing, good) as connected:
        assert connected.getpeername() == good.getsockname()
    assert time.monotonic() - began < 200 * ATTEMPT_DELAY / 2


@pytest.mark.ipv6
def test_the_first_address_is_preferred(stack: ExitStack) -> None:
    first, second = listening(stack), listening(stack, "::1")
    with to(first, second) as connected:
        assert connected.getpeername() == first.getsockname()


def test_an_early_address_may_still_answer_after_the_last_one_failed(stack: ExitStack) -> None:
    late = silent_address(stack)
    # Makes room in the queue. The kernel repeats a dropped request to connect after a second.
    stack.enter_context(late.accept()[0])
    with to(late, closed(stack)) as connected:
        assert connected.getpeername() == late.getsockname()


def test_if_all_addresses_refuse_the_error_says_so(stack: ExitStack) -> None:
    with pytest.raises(ConnectionRefusedError):
        to(closed(stack), closed(stack))


def test_if_no_address_answers_the_timeout_is_that_of_the_last(stack: ExitStack) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        to(silent_address(stack), silent_address(stack), timeout=0.5)
    assert time.monotonic() - began >= 0.5 + ATTEMPT_DELAY


def test_a_family_that_this_machine_lacks_is_passed_over(stack: ExitStack) -> None:
    good = listening(stack)
    unknown = Address(socket.AF_UNSPEC + 12345, socket.SOCK_STREAM, 0, "", ())
    with dial("name", 1, LONG, resolve=lambda host, port: [unknown, *addresses(good)]) as connected:
        assert connected.getpeername() == good.getsockname()


def test_an_unknown_host_is_an_error_of_its_own() -> None:
    with pytest.raises(socket.gaierror):
        dial("no-such-host.invalid", 1, LONG)


def test_no_socket_stays_open(stack: ExitStack) -> None:
    quiet, good = silent_address(stack), listening(stack)
    before = attempts(quiet)
    to(quiet, quiet, good).close()
    with pytest.raises(TimeoutError):
        to(quiet, timeout=0.1)
    assert attempts(quiet) == before


def test_families_alternate_and_each_address_is_tried_once() -> None:
    def address(family: int, host: str) -> Address:
        return Address(family, socket.SOCK_STREAM, 6, "", (host, 1))

    six = [address(socket.AF_INET6, f"::{number}") for number in range(3)]
    four = [address(socket.AF_INET, f"127.0.0.{number}") for number in range(1, 3)]
    assert interleave([*six, *four, *six]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleave([*four, *six])[:2] == [four[0], six[0]]
    assert interleave([]) == []


def test_localhost_is_resolved() -> None:
    assert {address.socket_address[0] for address in resolve("localhost", 1)} <= {"127.0.0.1", "::1"}
