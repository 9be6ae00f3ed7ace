"""Puts a run of pclient together: arguments, settings, pserver, then one command or the menu. Lets no traceback out."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from cli import arguments
from cli.arguments import ShowText
from cli.errors import CTRL_C, EXIT_CODES, FAILED, OK, CliError, PserverUnreachable, bad_usage
from cli.screen import OutputLost, Screen
from common.env_file import EnvFault, find_env_file
from common.version import VERSION

if TYPE_CHECKING:
    from cli.settings import Settings


def main(
    argv: Sequence[str], stdin: TextIO, stdout: TextIO, stderr: TextIO, on_start: Callable[[], None] = lambda: None
) -> int:
    """Run pclient; the exit code. `on_start` is called once there is something to end in good order."""
    screen = Screen(
        stdout,
        stderr,
        as_json=arguments.has_global_option(argv, "json"),
        quiet=arguments.has_global_option(argv, "quiet"),
    )
    try:
        return _told(argv, stdin, screen, on_start)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        return FAILED
    except OutputLost as error:
        with suppress(OSError):
            stderr.write(f"error: {error}\n")
        return EXIT_CODES["io"]
    finally:
        for stream in (stdout, stderr):
            _flush_or_let_go(stream)


def _told(argv: Sequence[str], stdin: TextIO, screen: Screen, on_start: Callable[[], None]) -> int:
    """Run pclient and tell how it ended; the exit code. Raises only what stdout raises, and SystemExit."""
    try:
        return _run(argv, stdin, screen, on_start)
    except EnvFault as fault:
        for line in ["; ".join(fault.lines)] if screen.as_json else fault.lines:
            screen.fault(CliError("bad_env", line))
        return EXIT_CODES["bad_env"]
    except ShowText as shown:
        if screen.as_json:
            screen.data({shown.kind: shown.text})
        else:
            for line in shown.text.splitlines():
                screen.line(line)
        return OK
    except CliError as error:
        screen.fault(error)
        return error.exit_code
    except KeyboardInterrupt:
        if screen.as_json:
            screen.fault(CliError("interrupted", "stopped by Ctrl-C"))
        else:
            screen.end_of_prompt()
        return CTRL_C
    except (BrokenPipeError, OutputLost):
        raise
    except Exception as error:  # the last resort: a fault of ours, told in one line
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" in {Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}" if trace else ""
        screen.fault(CliError("internal", f"internal error of the terminal: {type(error).__name__}{where}"))
        return FAILED


def launch(argv: Sequence[str]) -> int:
    """What the launcher does: `main` on the process's own streams."""
    # gRPC's own complaints are no lines for a person; ours say the same.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    # Without a stdin at all there is no answer to any question; without the others, nobody to hear one.
    stdin, stdout, stderr = sys.stdin or io.StringIO(), sys.stdout or _nowhere(), sys.stderr or _nowhere()
    try:
        return main(argv, stdin, stdout, stderr, _listen_to_signals)
    except KeyboardInterrupt:
        # One more, while it was told how it ended.
        return CTRL_C


def _listen_to_signals() -> None:
    """From here on: before, the launcher has each of them end us at once, as a half-done import is no place to go on.

    An exception out of one is told as the import's own fault.
    """
    # A terminal that is closed leaves in good order: cursor back, child ended. Transfers go on in a pserver of its own.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _leave, signal.SIGHUP: _leave}
    for number, handler in handlers.items():
        # nohup has us ignore one, a shell's & another.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _flush_or_let_go(stream: TextIO) -> None:
    """Leave nothing that Python would flush at exit into what does not take it."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(argv: Sequence[str], stdin: TextIO, screen: Screen, on_start: Callable[[], None]) -> int:
    order = arguments.parse(argv, VERSION)
    # What follows costs a tenth of a second to import: not for --help and not for a typing error.
    from cli.commands import run
    from cli.context import Context
    from cli.daemon_client import DaemonClient
    from cli.daemon_process import ChildDaemon
    from cli.menu import Menu
    from cli.prompts import EndOfInput, Prompter
    from cli.settings import read_settings

    try:
        settings = read_settings(order.env_pclient, order.env_pserver)
    except EnvFault as fault:
        raise EnvFault(*fault.lines, *([] if _lies_there(order.env_pserver) else arguments.hints(order))) from fault
    on_start()
    child = ChildDaemon(settings.env_pserver, settings.state_dir) if settings.env_pserver else None

    def start(why: PserverUnreachable) -> None:
        if child is None:
            raise PserverUnreachable(f"{why.message}; start one: {_how_to_start(settings)}") from why
        process = child.start()
        screen.info(f"no pserver answered: started one (process {process}); sharing stops when this terminal ends")

    node = DaemonClient(settings, start)
    try:
        node.connect()
        session = Context(node, screen, Prompter(stdin, screen))
        return run(session, order) if order.command else Menu(session).run()
    except EndOfInput as error:
        raise bad_usage("the question was not answered; nothing was done") from error
    finally:
        node.close()
        if child is not None:
            child.stop()


def _lies_there(env: str | None) -> bool:
    try:
        return env is not None and find_env_file(env).is_file()
    except EnvFault:
        return False


def _how_to_start(settings: Settings) -> str:
    """The command that would start a pserver; with its env file, if one lies beside ours under the usual name."""
    launcher = Path(__file__).resolve().parents[1] / "pserver.py"
    beside = settings.env_pclient.with_name(settings.env_pclient.name.replace("pclient", "pserver"))
    env = _from_here(beside) if beside != settings.env_pclient and beside.is_file() else "ENV_PSERVER"
    # The Python that we run on has what the pserver needs, and may be the only one with a name that the shell knows.
    return shlex.join([_from_here(Path(sys.executable)), _from_here(launcher), env])


def _from_here(path: Path) -> str:
    """As it can be typed in the current folder: in full, unless it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        # Not below, or the current folder was removed.
        return str(path)
