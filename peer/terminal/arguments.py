"""The command line: what was asked for, or one line about why it makes no sense. Reads no file, writes nothing.

    python peer/pclient.py [options] ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]

The argument after ENV_PCLIENT is ENV_PSERVER unless it is a command's name or begins with `-`. argparse cannot tell,
so the words before the command are taken apart here, and argparse reads what stands after it.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from terminal.errors import bad_usage

PROGRAM = "pclient.py"
_USAGE = f"{PROGRAM} ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]"
_GLOBAL = {"--json": "json", "--quiet": "quiet", "-q": "quiet", "--version": "version", "--help": "help", "-h": "help"}
_MOST_COPIES = 10_000


@dataclass(frozen=True)
class Shape:
    """What one command takes: its words, how many at least and at most, its own options, one line about it."""

    words: str
    least: int
    most: int | None
    about: str
    options: tuple[str, ...] = ()


COMMANDS = {
    "login": Shape("USER", 1, 1, "log the pserver in; the session outlives this terminal", ("--password-stdin",)),
    "logout": Shape("", 0, 0, "leave the network; nothing is served any more"),
    "passwd": Shape("", 0, 0, "change the password", ("--password-stdin",)),
    "upload": Shape("PATH...", 1, None, "share files and push them to other peers", ("--copies",)),
    "download": Shape("NAME-or-ID...", 1, None, "fetch files, whole and verified", ("--output",)),
    "files": Shape("[PATTERN]", 0, 1, "what the network has"),
    "peers": Shape("", 0, 0, "who is alive"),
    "status": Shape("", 0, 0, "this peer: user, addresses, folders, transfers"),
    "remove": Shape("NAME...", 1, None, "delete this peer's own copies", ("--yes",)),
}


@dataclass(frozen=True)
class Order:
    """One run of pclient. `command` is None for the menu."""

    env_pclient: str
    env_pserver: str | None = None
    command: str | None = None
    words: list[str] = field(default_factory=list)
    json: bool = False
    quiet: bool = False
    password_stdin: bool = False
    copies: int = 1
    output: str = ""
    yes: bool = False


class ShowText(Exception):
    """Help or version was asked for: `text` is all there is to do."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def wants(argv: Sequence[str], option: str) -> bool:
    """Whether a global option stands anywhere before `--`, also in a command line that makes no sense."""
    names = {name for name, meaning in _GLOBAL.items() if meaning == option}
    before = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in names for word in before)


def parse(argv: Sequence[str], version: str) -> Order:
    """The order that `argv` (without the program's name) gives.

    Raises:
        ShowText: for --help and --version.
        TerminalError: bad_usage.
    """
    if wants(argv, "help"):
        raise ShowText("help", _help(next((word for word in argv if word in COMMANDS), None)))
    if wants(argv, "version"):
        raise ShowText("version", version)
    flags, words, rest = _split(argv)
    if not words or words[0] in COMMANDS:
        raise bad_usage(f"ENV_PCLIENT is missing; usage: {_USAGE}")
    env_pserver = words[1] if len(words) > 1 else None
    if not rest:
        if "json" in flags:
            raise bad_usage(f"--json needs a command: {', '.join(COMMANDS)}")
        return Order(words[0], env_pserver, quiet="quiet" in flags)
    command, *after = rest
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        raise bad_usage(
            f"no command {command!r}; " + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}")
        )
    return _command(words[0], env_pserver, command, after, flags)


def hints(order: Order) -> list[str]:
    """What may have been meant, if the env files are no good: a mistyped command is taken for ENV_PSERVER."""
    near = difflib.get_close_matches(order.env_pserver or "", COMMANDS, n=1)
    return [f"{order.env_pserver} is not a command either; did you mean {near[0]}?"] if near else []


def _split(argv: Sequence[str]) -> tuple[set[str], list[str], list[str]]:
    """Global options that stand before the command, the one or two env files, the command and all after it."""
    flags: set[str] = set()
    files: list[str] = []
    options_end = False
    adjacent = True
    for place, word in enumerate(argv):
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
            after = list(argv[place + 1 :])
            return flags, files, [word, *(["--", *after] if options_end else after)]
    return flags, files, []


def _command(env_pclient: str, env_pserver: str | None, command: str, after: list[str], flags: set[str]) -> Order:
    shape = COMMANDS[command]
    cut = after.index("--") if "--" in after else len(after)
    # argparse is shown only what stands before `--`: it would drop a second `--` that is a name.
    found = _parser(command).parse_intermixed_args(after[:cut])
    words = [*found.words, *after[cut + 1 :]]
    if len(words) < shape.least or (shape.most is not None and len(words) > shape.most):
        wanted = shape.words or "no argument"
        raise bad_usage(f"{command} takes {wanted}; got {len(words)}")
    if "" in words:
        raise bad_usage(f"{command}: an empty name")
    return Order(
        env_pclient=env_pclient,
        env_pserver=env_pserver,
        command=command,
        words=words,
        json=found.json or "json" in flags,
        quiet=found.quiet or "quiet" in flags,
        password_stdin=getattr(found, "password_stdin", False),
        copies=getattr(found, "copies", 1),
        output=getattr(found, "output", ""),
        yes=getattr(found, "yes", False),
    )


class _Parser(argparse.ArgumentParser):
    """argparse that never writes and never exits."""

    def error(self, message: str) -> NoReturn:
        raise bad_usage(f"{message} (--help shows what there is)")


def _parser(command: str) -> _Parser:
    shape = COMMANDS[command]
    parser = _Parser(
        prog=f"{PROGRAM} ENV_PCLIENT [ENV_PSERVER] {command}",
        description=shape.about,
        allow_abbrev=False,
        add_help=False,
    )
    if shape.most != 0:
        parser.add_argument("words", nargs="*", metavar=shape.words.strip("[].") or "WORD")
    else:
        parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    if "--copies" in shape.options:
        parser.add_argument(
            "--copies", type=_copies, default=1, metavar="N", help="other peers that should hold it (1)"
        )
    if "--output" in shape.options:
        parser.add_argument(
            "--output",
            type=_output,
            default=argparse.SUPPRESS,
            metavar="PATH",
            help="another name, or a path for a second copy",
        )
    if "--yes" in shape.options:
        parser.add_argument("--yes", action="store_true", help="do not ask")
    if "--password-stdin" in shape.options:
        parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin, a line each")
    _add_globals(parser)
    return parser


def _add_globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout, and nothing else there")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no messages; errors remain")
    parser.add_argument("--version", action="store_true", help="show the version")
    parser.add_argument("-h", "--help", action="store_true", help="show this")


def _copies(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_COPIES):
        raise argparse.ArgumentTypeError(f"should be a number from 0 to {_MOST_COPIES}, not {text!r}")
    return int(text)


def _output(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("should be a name or a path")
    return text


def _help(command: str | None) -> str:
    if command is not None:
        shape = COMMANDS[command]
        parser = _parser(command)
        parser.usage = " ".join(filter(None, (parser.prog, shape.words, "[options]")))
        return parser.format_help().rstrip()
    parser = _Parser(
        prog=PROGRAM,
        usage=_USAGE,
        description="The terminal of a peer: a menu, or one command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        epilog="\n".join(
            [
                "commands (none: the menu):",
                *(f"  {' '.join((name, shape.words)):24} {shape.about}" for name, shape in COMMANDS.items()),
                "",
                "`COMMAND --help` tells more. `--` ends options: a name that begins with - comes after it.",
                "An env file is looked for here, then in bootstrap/. ENV_PSERVER: start that pserver if none answers;",
                "it ends with this terminal.",
                "",
                "exit codes: 0 done; 1 internal; 2 usage; 66 no such file; 69 nobody answers; 73 other contents there;",
                "74 disk; 75 run again to resume; 76 not verified; 77 not allowed; 78 env file; 130 Ctrl-C",
            ]
        ),
    )
    _add_globals(parser)
    return parser.format_help().rstrip()
