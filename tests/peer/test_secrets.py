"""No log, argument or error contains a secret, and text of a peer cannot add a line to the log."""

import io
import json
import logging
import secrets
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.models import Holder, PushTarget, Session
from daemon.runtime import logs
from eventually import eventually
from live_tracker import LiveTracker
from programs import PSERVER, Program, write_env
from pserver_pb2_grpc import ControlStub

PASSWORD = "canary-" + secrets.token_hex(16)


def lines(formatter: logging.Formatter, message: str, *arguments: Any) -> list[str]:
    """What a handler writes for one event."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.handle(logging.LogRecord("daemon.x", logging.INFO, "", 0, message, arguments, None))
    return out.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize(
    "hostile",
    ["a\nb", "\r\n2026-01-01 00:00:00 error: forged", "\x1b[2J", "\u2028x", "\u202e", "\x00", "\x85", "\ud800"],
)
def test_text_of_a_peer_stays_on_one_log_line(formatter: logging.Formatter, hostile: str) -> None:
    [line] = lines(formatter, "lost a holder: %s", hostile)
    assert line.isascii() or line.isprintable()
    assert "\x1b" not in line
    if isinstance(formatter, logs.JsonFormatter):
        assert json.loads(line)["level"] == "info"


def test_the_repr_of_a_value_shows_no_secret() -> None:
    canary = "canary" * 4
    shown = repr(
        Session(
            user="ana", address="a:1", token=canary, peer_id="ab" * 16, ticket_key=canary.encode(), clock_offset=0.0
        )
    )
    shown += repr(Holder("127.0.0.1:1", canary, True, "")) + repr(PushTarget("a", "ab" * 32, "127.0.0.1:1", canary, ""))
    assert "canary" not in shown


def test_no_secret_is_in_logs_arguments_or_environment(tmp_path: Path, tracker: LiveTracker) -> None:
    state = tmp_path / "state"
    values = {
        "PSERVER_URL": "127.0.0.1",
        "PSERVER_LOCAL_URL": "127.0.0.1",
        "PSERVER_PORT": 0,
        "SERVER_URL": "127.0.0.1",
        "SERVER_PORT": tracker.port,
        "SHARED_DIR": tmp_path / "shared",
        "STATE_DIR": state,
        "PING_INTERVAL": 0.2,
    }
    env = tmp_path / ".env_pserver"
    write_env(env, values)
    program = Program("pserver", PSERVER, [env], tmp_path / "pserver.log")
    program.start()
    try:
        cookie = (state / "cookie").read_text().strip()
        with grpc.insecure_channel(f"127.0.0.1:{program.port}", [("grpc.enable_http_proxy", 0)]) as channel:
            control = ControlStub(channel)
            metadata = (("p2p-cookie", cookie),)
            with pytest.raises(grpc.RpcError):
                control.Login(pb.LoginRequest(user="no/such", password=PASSWORD), metadata=metadata, timeout=20)
            control.Login(pb.LoginRequest(user="hugo", password=PASSWORD), metadata=metadata, timeout=20)
            with pytest.raises(grpc.RpcError) as error:
                control.Login(pb.LoginRequest(user="cleo2", password=""), metadata=metadata, timeout=20)
            assert PASSWORD not in str(error.value)
            control.Login(pb.LoginRequest(user="hugo", password=PASSWORD), metadata=metadata, timeout=20)
            session = json.loads((state / "session").read_text())
            status = str(control.Status(pb.StatusRequest(), metadata=metadata, timeout=20))
        canaries = [PASSWORD, cookie, session["token"], session["ticket_key"]]
        argv = Path(f"/proc/{program.pid}/cmdline").read_text()
        environment = Path(f"/proc/{program.pid}/environ").read_text()
        for place in (argv, environment, status):
            assert not [canary for canary in canaries if canary in place]
        for private in (state / "session", state / "cookie"):
            assert private.stat().st_mode & 0o777 == 0o600
        assert state.stat().st_mode & 0o777 == 0o700
    finally:
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    log = program.log.read_text()
    assert "logged in as hugo" in log
    assert not [canary for canary in canaries if canary in log]
    assert "Traceback" not in log
    eventually(lambda: not (state / "cookie").exists())
