"""The options and words of each command, as argparse knows them, and the help that it makes of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NoReturn

from cli.errors import bad_usage

PROGRAM = "pclient.py"
USAGE = f"{PROGRAM} ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]"
_MOST_COPIES = 10_000


@dataclass(frozen=True)
class CommandSpec:
    """What one command takes: its words, how many at least and at most, its own options, one line about it."""

    metavar: str
    min_arguments: int
    max_arguments: int | None
    summary: str
    options: tuple[str, ...] = ()


COMMANDS = {
    "login": CommandSpec("USER", 1, 1, "log in; the session outlives this terminal", ("--password-stdin",)),
    "logout": CommandSpec("", 0, 0, "leave the network; nothing is served any more"),
    "passwd": CommandSpec("", 0, 0, "change the password", ("--password-stdin",)),
    "upload": CommandSpec("PATH...", 1, None, "share files and push them to other peers", ("--copies",)),
    "download": CommandSpec("NAME-or-ID...", 1, None, "fetch files, whole and verified", ("--output",)),
    "files": CommandSpec("[PATTERN]", 0, 1, "what the network has"),
    "peers": CommandSpec("", 0, 0, "who is alive"),
    "status": CommandSpec("", 0, 0, "this peer: user, addresses, folders, transfers"),
    "remove": CommandSpec("NAME...", 1, None, "delete this peer's own copies", ("--yes",)),
}

# What there is to know of a command beside its options; lines of 78 characters at most, as argparse has them.
_NOTES = {
    "login": (
        "A name that is new makes an account, while the tracker allows it. The password",
        "is asked for, or is a line of stdin. Who was logged in before is logged out.",
    ),
    "passwd": ("On stdin: first the old password, then the new one, a line each.",),
    "upload": (
        "A folder is all files in it, with names that begin with its own. What lies in",
        "the shared folder stays where it is; anything else is copied there. The same",
        "upload again makes up for copies that are missing; --copies 0 only shares.",
    ),
    "download": (
        "NAME/ is all that lies below; * and ? make a pattern (in quotes, or the shell",
        "takes it for files here). Stopped half-way: the same again resumes.",
        "--output WORD, without a /, is another name in the shared folder, and shared",
        "with all. --output PATH, with a /, gets a second copy: ./WORD in the current",
        "folder; PATH/, or a PATH that is a folder, as PATH/NAME. Nothing is ever",
        "overwritten.",
    ),
    "files": ("PATTERN is a part of the name, or with * and ? the whole of it; in any case.",),
    "remove": (
        "NAME/ is all that lies below; * and ? make a pattern. The copies of other",
        "peers stay. Where nobody can be asked, --yes is needed.",
    ),
}


class _Parser(argparse.ArgumentParser):
    """argparse that never writes and never exits."""

    def error(self, message: str) -> NoReturn:
        raise bad_usage(f"{message} (--help shows what there is)")


def parser(command: str) -> _Parser:
    shape = COMMANDS[command]
    parser = _Parser(
        prog=f"{PROGRAM} ENV_PCLIENT [ENV_PSERVER] {command}",
        description=shape.summary,
        epilog="\n".join(_NOTES.get(command, ())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    if shape.max_arguments != 0:
        parser.add_argument("words", nargs="*", metavar=shape.metavar.strip("[].") or "WORD")
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
            help="without a /: another name in the shared folder; with one: where a second copy goes, as ./x or out/",
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


def help_text(command: str | None) -> str:
    if command is not None:
        shape = COMMANDS[command]
        shown = parser(command)
        shown.usage = " ".join(filter(None, (shown.prog, shape.metavar, "[options]")))
        return shown.format_help().rstrip()
    shown = _Parser(
        prog=PROGRAM,
        usage=USAGE,
        description="The terminal of a peer: a menu, or one command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        epilog="\n".join(
            [
                "commands (none: the menu):",
                *(f"  {' '.join((name, shape.metavar)):24} {shape.summary}" for name, shape in COMMANDS.items()),
                "",
                "`COMMAND --help` tells more. `--` ends options: a name that begins with -",
                "comes after it. An env file is looked for here, then in bootstrap/.",
                "ENV_PSERVER: start that pserver if none answers; it ends with this terminal.",
                "",
                "exit codes: 0 done; 1 internal; 2 usage; 66 no such file; 69 nobody answers;",
                "73 other contents there; 74 disk; 75 run again to resume; 76 not verified;",
                "77 not allowed; 78 env file; 130 Ctrl-C",
            ]
        ),
    )
    _add_globals(shown)
    return shown.format_help().rstrip()
