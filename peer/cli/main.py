"""Runs pclient: parses arguments, reads settings, connects, then runs one command or the menu. Shows no traceback."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from cli import arguments
from cli.arguments import Invocation, ShowText
from cli.errors import CTRL_C, EXIT_CODES, FAILED, OK, CliError, PserverUnreachable, bad_usage, exit_code
from cli.screen import OutputLost, Screen
from common.env_file import EnvFault, find_env_file
from common.launch_commands import launch_command, relative
from common.version import VERSION

if TYPE_CHECKING:
    from cli.settings import Settings


def main(
    argv: Sequence[str], stdin: TextIO, stdout: TextIO, stderr: TextIO, on_start: Callable[[], None] = lambda: None
) -> int:
    """Run pclient.

    Args:
        argv: The arguments, without the program's name.
        stdin: Answers to prompts, and passwords.
        stdout: Results.
        stderr: Progress, prompts, messages and errors.
        on_start: Called before the first resource is opened that has to be closed in order.

    Returns:
        The exit code.

    Raises:
        ModuleNotFoundError: if this Python lacks a package.
    """
    screen = Screen(
        stdout,
        stderr,
        as_json=arguments.has_global_option(argv, "json"),
        quiet=arguments.has_global_option(argv, "quiet"),
    )
    try:
        return _run_and_report(argv, stdin, screen, on_start)
    except BrokenPipeError:
        # The reader of stdout has closed the pipe.
        return FAILED
    except OutputLost as error:
        with suppress(OSError):
            stderr.write(f"error: {error}\n")
        return EXIT_CODES["io"]
    finally:
        for stream in (stdout, stderr):
            _flush_or_discard(stream)


def _run_and_report(argv: Sequence[str], stdin: TextIO, screen: Screen, on_start: Callable[[], None]) -> int:
    """Run pclient, show its failure, return the exit code.

    Raises:
        BrokenPipeError, OutputLost: if stdout cannot be written.
        ModuleNotFoundError: if this Python lacks a package.
    """
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
        return exit_code(error)
    except KeyboardInterrupt:
        if screen.as_json:
            screen.fault(CliError("interrupted", "cancelled by Ctrl-C"))
        else:
            screen.end_of_prompt()
        return CTRL_C
    except (BrokenPipeError, OutputLost, ModuleNotFoundError):
        raise
    except Exception as error:  # the last resort: a bug, in one line
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" in {Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}" if trace else ""
        screen.fault(CliError("internal", f"internal error of pclient: {type(error).__name__}{where}"), plain=True)
        return FAILED


def launch(argv: Sequence[str]) -> int:
    """Run `main` on the streams of the process; return the exit code."""
    # Silence gRPC's own messages: our errors say the same.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    # A process may be started without these streams.
    stdin, stdout, stderr = sys.stdin or io.StringIO(), sys.stdout or _null_stream(), sys.stderr or _null_stream()
    try:
        return main(argv, stdin, stdout, stderr, _handle_signals)
    except KeyboardInterrupt:
        # A second Ctrl-C, while the first was reported.
        return CTRL_C


def _handle_signals() -> None:
    """Replace the launcher's signal handlers, which exit at once, by handlers that raise.

    They must not raise during imports: Python would report the exception as an import error.
    """
    # When the terminal is closed, restore its cursor and stop the child. Transfers go on in a pserver that is no child.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _exit, signal.SIGHUP: _exit}
    for number, handler in handlers.items():
        # nohup ignores SIGHUP, and a shell's & ignores SIGINT.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _null_stream() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _flush_or_discard(stream: TextIO) -> None:
    """Flush a stream. If that fails, point it at /dev/null, so that the flush at exit succeeds."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(argv: Sequence[str], stdin: TextIO, screen: Screen, on_start: Callable[[], None]) -> int:
    invocation = arguments.parse(argv, VERSION, _env_file_exists)
    # These imports take a tenth of a second: --help and a typing error do not wait for them.
    from cli.commands import run
    from cli.context import Context
    from cli.daemon_client import DaemonClient
    from cli.daemon_process import ChildDaemon
    from cli.menu import Menu
    from cli.prompts import EndOfInput, Prompter
    from cli.settings import read_settings

    screen.pclient = _own_command(invocation)
    settings = read_settings(invocation.env_pclient, invocation.env_pserver)
    on_start()
    child = ChildDaemon(settings.env_pserver, settings.state_dir)

    def start(why: PserverUnreachable) -> None:
        if settings.env_pserver is None:
            raise PserverUnreachable(f"{why.message}; start one: {_start_command(settings)}") from why
        pid = child.start(daemon.answers)
        if pid is not None:
            screen.info(f"Started a pserver (PID {pid}). Sharing stops when the last pclient that uses it exits.")

    daemon = DaemonClient(settings, start)
    try:
        child.use()
        daemon.connect()
        if settings.env_pserver is not None and child.is_shared():
            screen.info("Using the pserver that another pclient started. Sharing stops when the last of them exits.")
        context = Context(daemon, screen, Prompter(stdin, screen))
        return run(context, invocation) if invocation.command else Menu(context).run()
    except EndOfInput as error:
        raise bad_usage("no answer to the prompt; nothing was done") from error
    finally:
        daemon.close()
        child.release()


def _env_file_exists(argument: str) -> bool:
    try:
        return find_env_file(argument).is_file()
    except EnvFault:
        return False


def _own_command(invocation: Invocation) -> str:
    """The command that starts pclient with the same env files."""
    files = [invocation.env_pclient, invocation.env_pserver]
    return _launch_command("pclient.py", *(file for file in files if file is not None))


def _start_command(settings: Settings) -> str:
    """The command that starts a pserver, with the env file of the usual name if there is one beside ours."""
    beside = settings.env_pclient.with_name(settings.env_pclient.name.replace("pclient", "pserver"))
    env = relative(beside) if beside != settings.env_pclient and beside.is_file() else "ENV_PSERVER"
    return _launch_command("pserver.py", env)


def _launch_command(launcher: str, *arguments: str) -> str:
    """The command that runs a launcher of this folder with this Python, which has the packages."""
    return launch_command(Path(sys.executable), Path(__file__).resolve().parents[1] / launcher, *arguments)
