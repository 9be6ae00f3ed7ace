"""An address that answers nothing, as one behind a firewall that drops packets; needs no rights."""

import socket
from contextlib import ExitStack


def silent_address(stack: ExitStack, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket on a port whose queue of connections is full until `stack` is closed.

    The kernel drops further requests to connect. Accepting a connection makes room for one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    full = stack.enter_context(socket.socket(family))
    full.bind((host, port))
    full.listen(0)
    for _ in range(8):
        filler = stack.enter_context(socket.socket(family))
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    return full
