"""The command line: what was asked for, or one line about why it makes no sense. Reads no file, writes nothing.

    python peer/pclient.py [options] ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]

The argument after ENV_PCLIENT is ENV_PSERVER unless it is a command's name or begins with `-`. argparse cannot tell,
so the words before the command are taken apart here, and argparse reads what stands after it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.errors import bad_usage
from cli.options import COMMANDS, USAGE, help_text, parser

_GLOBAL = {"--json": "json", "--quiet": "quiet", "-q": "quiet", "--version": "version", "--help": "help", "-h": "help"}


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
    output: str = ""
    yes: bool = False


class ShowText(Exception):
    """Help or version was asked for: `text` is all there is to do."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def has_global_option(argv: Sequence[str], option: str) -> bool:
    """Whether a global option stands anywhere before `--`, also in a command line that makes no sense."""
    names = {name for name, meaning in _GLOBAL.items() if meaning == option}
    before = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in names for word in before)


def parse(argv: Sequence[str], version: str) -> Invocation:
    """The order that `argv` (without the program's name) gives.

    Raises:
        ShowText: for --help and --version.
        TerminalError: bad_usage.
    """
    if has_global_option(argv, "help"):
        raise ShowText("help", help_text(next((word for word in argv if word in COMMANDS), None)))
    if has_global_option(argv, "version"):
        raise ShowText("version", version)
    flags, words, rest = _split(argv)
    if not words or words[0] in COMMANDS:
        raise bad_usage(f"ENV_PCLIENT is missing; usage: {USAGE}")
    env_pserver = words[1] if len(words) > 1 else None
    if not rest:
        if "json" in flags:
            raise bad_usage(f"--json needs a command: {', '.join(COMMANDS)}")
        return Invocation(words[0], env_pserver, quiet="quiet" in flags)
    command, *after = rest
    if command not in COMMANDS:
        # A mistyped command before its words stands where ENV_PSERVER may stand.
        mistyped = env_pserver if env_pserver and _near(env_pserver) and not _near(command) else command
        other = env_pserver if env_pserver and env_pserver.isalpha() and not _near(mistyped) else None
        either = f"{other!r}, nor {mistyped!r} if {other} is ENV_PSERVER" if other else repr(mistyped)
        raise bad_usage(f"no command {either}; {_meant(mistyped)}")
    return _command(words[0], env_pserver, command, after, flags)


def hints(order: Invocation) -> list[str]:
    """What may have been meant, if there is no such ENV_PSERVER: a mistyped command is taken for it."""
    word = order.env_pserver or ""
    return [f"{word} is not a command either; {_meant(word)}"] if word.isalpha() or _near(word) else []


def _near(word: str) -> list[str]:
    return difflib.get_close_matches(word, COMMANDS, n=1)


def _meant(word: str) -> str:
    near = _near(word)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"


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
                raise bad_usage(f"unknown option {word} before the command; usage: {USAGE}")
            flags.add(_GLOBAL[word])
            adjacent = not files
        elif not files or (len(files) == 1 and adjacent and word not in COMMANDS):
            files.append(word)
        else:
            after = list(argv[place + 1 :])
            return flags, files, [word, *(["--", *after] if options_end else after)]
    return flags, files, []


def _command(env_pclient: str, env_pserver: str | None, command: str, after: list[str], flags: set[str]) -> Invocation:
    shape = COMMANDS[command]
    cut = after.index("--") if "--" in after else len(after)
    # argparse is shown only what stands before `--`: it would drop a second `--` that is a name.
    found = parser(command).parse_intermixed_args(after[:cut])
    words = [*found.words, *after[cut + 1 :]]
    if len(words) < shape.min_arguments or (shape.max_arguments is not None and len(words) > shape.max_arguments):
        wanted = shape.metavar or "no argument"
        raise bad_usage(f"{command} takes {wanted}; got {len(words)}")
    # Of several words each is tried, and refused, for itself.
    if "" in words and shape.max_arguments is not None:
        raise bad_usage(f"{command}: an empty name")
    if getattr(found, "output", "") == "-":
        raise bad_usage("--output - would be a file called '-': name a file, or a folder with a / at its end")
    return Invocation(
        env_pclient=env_pclient,
        env_pserver=env_pserver,
        command=command,
        arguments=words,
        json=found.json or "json" in flags,
        quiet=found.quiet or "quiet" in flags,
        password_stdin=getattr(found, "password_stdin", False),
        copies=getattr(found, "copies", 1),
        output=getattr(found, "output", ""),
        yes=getattr(found, "yes", False),
    )
