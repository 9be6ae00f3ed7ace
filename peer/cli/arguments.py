"""Parses the command line and has the help texts. Pure: a callback says whether an env file exists.

    python peer/pclient.py [options] ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]

The argument after ENV_PCLIENT is ENV_PSERVER unless it is a command or begins with `-`. argparse cannot express this:
`parse` splits off the words before the command, and argparse reads the rest.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from cli.errors import CliError, bad_usage

_PROGRAM = "pclient.py"
_USAGE = f"{_PROGRAM} ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]"
_MAX_COPIES = 10_000
_GLOBAL = {"--json": "json", "--quiet": "quiet", "-q": "quiet", "--version": "version", "--help": "help", "-h": "help"}


@dataclass(frozen=True)
class CommandSpec:
    """What one command accepts, and the lines about it in the help texts."""

    metavar: str
    min_arguments: int
    # None: any number.
    max_arguments: int | None
    summary: str
    options: tuple[str, ...] = ()
    # Lines of at most 78 characters below the options.
    notes: tuple[str, ...] = ()


COMMANDS = {
    "login": CommandSpec(
        "USER",
        1,
        1,
        "log in; the session outlives pclient",
        ("--password-stdin",),
        (
            "An unknown user name creates an account if registration is open; on a terminal",
            "this is confirmed first. The password is prompted for, or is a line of stdin.",
            "A login as another user logs out the first.",
        ),
    ),
    "logout": CommandSpec("", 0, 0, "log out and stop sharing"),
    "passwd": CommandSpec(
        "",
        0,
        0,
        "change the password",
        ("--password-stdin",),
        ("On stdin: the old password, then the new one, a line each.",),
    ),
    "upload": CommandSpec(
        "PATH...",
        1,
        None,
        "share files and push copies to other peers",
        ("--copies", "--link"),
        (
            "Folders are uploaded recursively as FOLDER/... Files outside the shared folder",
            "are copied into it first. Repeat the command to create missing copies;",
            "--copies 0 shares without pushing. --link needs one file system, and no room:",
            "an edit of the file outside then also changes the shared one.",
        ),
    ),
    "download": CommandSpec(
        "NAME-or-ID...",
        1,
        None,
        "download files",
        ("--output", "--newest"),
        (
            "NAME/ downloads a folder; * and ? are wildcards (quote them). An interrupted",
            "download resumes when repeated.",
            "--output NAME saves under another name in the shared folder. --output ./PATH",
            '(any path with "/") also writes a copy outside it; if PATH is a folder, or',
            "ends in /, the copy is PATH/NAME. Existing files are never overwritten.",
            "--newest downloads the version that was modified last, if a name has several.",
        ),
    ),
    "files": CommandSpec(
        "[PATTERN]",
        0,
        1,
        "list files in the network",
        notes=("PATTERN: substring, or a glob matching the whole name. Case-insensitive.",),
    ),
    "peers": CommandSpec("", 0, 0, "list online peers"),
    "status": CommandSpec("", 0, 0, "show this peer: user, addresses, folders, transfers"),
    "remove": CommandSpec(
        "NAME...",
        1,
        None,
        "delete this peer's own copies",
        ("--yes",),
        (
            "NAME/ removes a folder; * and ? are wildcards (quote them). Copies on other",
            "peers are kept. Without a terminal, pass --yes.",
        ),
    ),
}


@dataclass(frozen=True)
class Invocation:
    """One run of pclient. `command` is None for the menu."""

    env_pclient: str
    env_pserver: str | None = None
    command: str | None = None
    arguments: list[str] = field(default_factory=list)
    json: bool = False
    quiet: bool = False
    password_stdin: bool = False
    copies: int = 1
    link: bool = False
    output: str = ""
    newest: bool = False
    yes: bool = False


class ShowText(Exception):
    """Help or version was requested: `text` is all there is to print. `kind` is "help" or "version"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def has_global_option(argv: Sequence[str], option: str) -> bool:
    """Whether a global option is anywhere before `--`. It works for malformed command lines, too."""
    names = {name for name, kind in _GLOBAL.items() if kind == option}
    before = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in names for word in before)


def parse(argv: Sequence[str], version: str, env_file_exists: Callable[[str], bool] = lambda word: True) -> Invocation:
    """Parse the command line.

    Args:
        argv: The arguments, without the program's name.
        version: What --version prints.
        env_file_exists: Whether a word is the path of an env file.

    Raises:
        ShowText: for --help and --version.
        CliError: bad_usage.
    """
    if has_global_option(argv, "help"):
        raise ShowText("help", _help_text(next((word for word in argv if word in COMMANDS), None)))
    if has_global_option(argv, "version"):
        raise ShowText("version", version)
    words = _split(argv)
    if not words.files or words.files[0] in COMMANDS:
        raise bad_usage(f"ENV_PCLIENT is missing; usage: {_USAGE} (see --help)")
    env_pserver = words.files[1] if len(words.files) > 1 else None
    # A mistyped command is where ENV_PSERVER may be.
    if env_pserver is not None and not env_file_exists(env_pserver):
        raise _unknown_command(env_pserver)
    if not words.command:
        if "json" in words.flags:
            raise bad_usage(f"--json needs a command: {', '.join(COMMANDS)}")
        return Invocation(words.files[0], env_pserver, quiet="quiet" in words.flags)
    if words.command not in COMMANDS:
        raise _unknown_command(words.command)
    return _parse_command(words, env_pserver)


class _Words(NamedTuple):
    """A command line, split. `files` are one or two env files; `command` is empty for the menu."""

    flags: set[str]
    files: list[str]
    command: str
    arguments: list[str]


def _split(argv: Sequence[str]) -> _Words:
    flags: set[str] = set()
    files: list[str] = []
    options_end = False
    # An option between the env files and a word makes the word a command.
    adjacent = True
    for position, word in enumerate(argv):
        if not options_end and word == "--":
            options_end = True
        elif not options_end and word.startswith("-") and word != "-":
            if word not in _GLOBAL:
                raise bad_usage(f"unknown option {word} before the command; usage: {_USAGE}")
            flags.add(_GLOBAL[word])
            adjacent = not files
        elif not files or (len(files) == 1 and adjacent and word not in COMMANDS):
            files.append(word)
        else:
            after = list(argv[position + 1 :])
            return _Words(flags, files, word, ["--", *after] if options_end else after)
    return _Words(flags, files, "", [])


def _unknown_command(word: str) -> CliError:
    # A word with a dot or slash is more likely the path of an env file.
    file = ", and no such env file" if "/" in word or "." in word else ""
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return bad_usage(f"unknown command {word!r}{file}{meant} (commands: {', '.join(COMMANDS)})")


def _parse_command(words: _Words, env_pserver: str | None) -> Invocation:
    command, after = words.command, words.arguments
    spec = COMMANDS[command]
    cut = after.index("--") if "--" in after else len(after)
    # argparse gets only the words before `--`: it would drop a second `--` that is a name.
    found = _parser(command).parse_intermixed_args(after[:cut])
    arguments = [*found.arguments, *after[cut + 1 :]]
    if len(arguments) < spec.min_arguments:
        raise bad_usage(f"{command}: missing {spec.metavar.rstrip('.')} (see --help)")
    if spec.max_arguments is not None and len(arguments) > spec.max_arguments:
        raise bad_usage(f"{command}: unexpected argument {arguments[spec.max_arguments]!r} (see --help)")
    # A command with many arguments refuses each empty one by itself.
    if "" in arguments and spec.max_arguments is not None:
        raise bad_usage(f"{command}: empty {spec.metavar.strip('[]')}")
    if getattr(found, "output", "") == "-":
        raise bad_usage("--output - is not supported; give a file name, or a folder with a / at its end")
    return Invocation(
        env_pclient=words.files[0],
        env_pserver=env_pserver,
        command=command,
        arguments=arguments,
        json=found.json or "json" in words.flags,
        quiet=found.quiet or "quiet" in words.flags,
        password_stdin=getattr(found, "password_stdin", False),
        copies=getattr(found, "copies", 1),
        link=getattr(found, "link", False),
        output=getattr(found, "output", ""),
        newest=getattr(found, "newest", False),
        yes=getattr(found, "yes", False),
    )


class _Parser(argparse.ArgumentParser):
    """argparse that never writes and never exits."""

    def error(self, message: str) -> NoReturn:
        raise bad_usage(f"{message} (see --help)")


def _parser(command: str) -> _Parser:
    spec = COMMANDS[command]
    parser = _Parser(
        prog=f"{_PROGRAM} ENV_PCLIENT [ENV_PSERVER] {command}",
        description=spec.summary,
        epilog="\n".join(spec.notes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    if spec.max_arguments != 0:
        parser.add_argument("arguments", nargs="*", metavar=spec.metavar.strip("[].") or "WORD")
    else:
        parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    if "--copies" in spec.options:
        parser.add_argument(
            "--copies", type=_copies, default=1, metavar="N", help="complete copies on other peers (default: 1)"
        )
    if "--link" in spec.options:
        parser.add_argument(
            "--link", action="store_true", help="hard-link files outside the shared folder instead of copying them"
        )
    if "--output" in spec.options:
        parser.add_argument(
            "--output",
            type=_output,
            default=argparse.SUPPRESS,
            metavar="PATH",
            help="another name in the shared folder, or the path of a second copy",
        )
    if "--newest" in spec.options:
        parser.add_argument("--newest", action="store_true", help="of several versions, the one modified last")
    if "--yes" in spec.options:
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    if "--password-stdin" in spec.options:
        parser.add_argument("--password-stdin", action="store_true", help="read passwords from stdin, a line each")
    _add_globals(parser)
    return parser


def _add_globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="suppress progress and messages (errors are still shown)"
    )
    parser.add_argument("--version", action="store_true", help="show the version")
    parser.add_argument("-h", "--help", action="store_true", help="show this help")


def _copies(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_COPIES):
        raise argparse.ArgumentTypeError(f"should be a number from 0 to {_MAX_COPIES}, not {text!r}")
    return int(text)


def _output(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("should be a name or a path")
    return text


def _help_text(command: str | None) -> str:
    if command is not None:
        parser = _parser(command)
        parser.usage = " ".join(filter(None, (parser.prog, COMMANDS[command].metavar, "[options]")))
        return parser.format_help().rstrip()
    parser = _Parser(
        prog=_PROGRAM,
        usage=_USAGE,
        description="Command-line client for a pserver. Without COMMAND, opens the menu.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        epilog="\n".join(
            [
                "commands:",
                *(f"  {' '.join((name, spec.metavar)):24} {spec.summary}" for name, spec in COMMANDS.items()),
                "",
                "`COMMAND --help` shows the options of a command. `--` ends options: a name",
                "that begins with - comes after it. Env files are searched in the current",
                "folder, then in bootstrap/. ENV_PSERVER: start this pserver if none is",
                "running; it stops when pclient exits.",
                "",
                "exit codes: 0 done; 1 internal; 2 usage; 66 no such file; 69 unreachable;",
                "73 target exists; 74 disk; 75 run again to resume; 76 not verified;",
                "77 not allowed; 78 env file; 130 Ctrl-C",
            ]
        ),
    )
    _add_globals(parser)
    return parser.format_help().rstrip()
