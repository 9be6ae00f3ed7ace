"""The files `.p2pignore` of a shared folder: which names they leave out. The patterns are gitignore's, by pathspec.

A file with this name in any folder is about the names in that folder and below, as with git: the last pattern that
matches decides, deeper files go first, and nothing below a folder that is left out is read or considered. No peer can
send such a file, since its name begins with a dot.

What was shared by mistake cannot be taken back. So a file that cannot be read leaves out its complete folder, and a
changed file only adds to the earlier one in the first walk that finds it: an editor may not have written it completely.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from daemon.errors import NotAllowed
from daemon.storage.disk import Disk
from daemon.storage.fingerprints import Fingerprint

IGNORE_FILE = ".p2pignore"
# Bytes of a file of patterns. A longer one is refused.
MAX_IGNORE_FILE_BYTES = 256 << 10

_SPECIAL = re.compile(r"[*?\[\]\\]")


class BadIgnoreFile(Exception):
    """A file of patterns cannot be used. The message says why, and what to do."""


class _Pattern(NamedTuple):
    """One pattern: its line, what matches a name relative to its folder, and whether it lacks a "!"."""

    line: str
    expression: re.Pattern[str]
    leaves_out: bool


class IgnoreFile:
    """The patterns of one file.

    Args:
        prefix: the name of its folder with a "/" at the end; empty for the shared folder itself.
        text: its content.
        fingerprint: its fingerprint when it was read.

    Attributes:
        fingerprint: the same; None if the file is gone.
        earlier: what the file contained before, if it leaves out names still.

    Raises:
        BadIgnoreFile: if a line is no pattern.
    """

    def __init__(self, prefix: str, text: str, fingerprint: Fingerprint) -> None:
        self.prefix = prefix
        self.fingerprint: Fingerprint | None = fingerprint
        self.earlier: IgnoreFile | None = None
        # Its import takes 15 ms, and most shared folders have no such file.
        from pathspec.patterns.gitignore import GitIgnorePatternError  # noqa: PLC0415
        from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415

        lines = [line.removesuffix("\r") for line in text.split("\n")]
        try:
            found = [GitIgnoreSpecPattern(line) for line in lines]
        except (GitIgnorePatternError, re.error) as error:
            raise BadIgnoreFile(f"{prefix}{IGNORE_FILE} has a line that is no pattern ({error}); correct it") from error
        # In reverse order. A comment has no expression.
        self._patterns = [
            _Pattern(str(pattern.pattern), re.compile(_own_expression(pattern.regex.pattern)), bool(pattern.include))
            for pattern in reversed(found)
            if pattern.regex is not None
        ]
        self._prepare_quick_test()

    def decide(self, name: str, leaf: str, *, is_folder: bool) -> str | None:
        """Decide about a name in the folder or below, whose parent folders are not left out.

        Args:
            name: the complete name.
            leaf: its last component.
            is_folder: whether it is a folder.

        Returns:
            Why it is left out, for a user; "" if a pattern with "!" takes it in; None if no pattern matches.
        """
        if self.earlier is not None:
            reason = self.earlier.decide(name, leaf, is_folder=is_folder)
            if reason:
                return reason
        relative = name[len(self.prefix) :] + ("/" if is_folder else "")
        if not (
            leaf in self._literals
            or leaf.endswith(self._suffixes)
            or leaf.startswith(self._prefixes)
            or (self._others is not None and self._others.search(relative))
        ):
            return None
        for pattern in self._patterns:
            if pattern.expression.search(relative):
                return f"matches {pattern.line!r} in {self.prefix}{IGNORE_FILE}" if pattern.leaves_out else ""
        return None

    def _prepare_quick_test(self) -> None:
        """Prepare a test that nearly all names of a folder fail: to try 20 patterns one by one takes too long.

        A name passes that could match a pattern. Most patterns are a word, or a word with one `*` before or after it.
        """
        literals: set[str] = set()
        prefixes: list[str] = []
        suffixes: list[str] = []
        others: list[str] = []
        for pattern in self._patterns:
            word = pattern.line.removeprefix("!").removesuffix("/")
            if word.endswith(" ") or "/" in word:
                others.append(pattern.expression.pattern)
            elif not _SPECIAL.search(word):
                literals.add(word)
            elif not _SPECIAL.search(word[1:]) and word[0] == "*":
                suffixes.append(word[1:])
            elif not _SPECIAL.search(word[:-1]) and word[-1] == "*":
                prefixes.append(word[:-1])
            else:
                others.append(pattern.expression.pattern)
        self._literals = frozenset(literals)
        self._prefixes, self._suffixes = tuple(prefixes), tuple(suffixes)
        self._others = re.compile("|".join(others)) if others else None


class IgnoreRules:
    """All files of patterns that one walk found, and what it left out.

    Attributes:
        files: the number of files and other entries left out, beside those in `folders`.
        folders: the number of folders left out.
    """

    def __init__(self) -> None:
        self._by_folder: dict[str, IgnoreFile | BadIgnoreFile] = {}
        self.files = 0
        self.folders = 0

    def load(self, disk: Disk, fd: int, prefix: str, earlier: IgnoreRules) -> IgnoreFile | None:
        """Read the file of patterns of a folder, unless the earlier walk read the same one.

        Args:
            disk: the file operations to use.
            fd: the descriptor of the folder.
            prefix: the name of the folder with a "/" at the end; empty for the root.
            earlier: what the earlier walk found.

        Returns:
            The patterns; None if the folder has no such file.

        Raises:
            BadIgnoreFile: if the file cannot be used.
        """
        known = earlier._by_folder.get(prefix)
        try:
            file = _read(disk, fd, prefix, known if isinstance(known, IgnoreFile) else None)
        except BadIgnoreFile as error:
            self._by_folder[prefix] = error
            raise
        if file is not None:
            self._by_folder[prefix] = file
        return file

    def has(self, prefix: str) -> bool:
        """Return whether the folder with this prefix had a file of patterns."""
        return prefix in self._by_folder

    def reason_for(self, name: str, *, is_folder: bool = False) -> str:
        """Return why a name, or one of its folders, is left out, as the end of a sentence; empty if it is not.

        Args:
            name: the name; it need not exist. The files of patterns are those that the walk found.
            is_folder: whether it is the name of a folder.
        """
        if not self._by_folder:
            return ""
        components = name.split("/")
        stack: tuple[IgnoreFile, ...] = ()
        prefix = ""
        for depth, component in enumerate(components, 1):
            file = self._by_folder.get(prefix)
            if isinstance(file, BadIgnoreFile):
                return f"is in a folder that is not shared: {file}"
            if file is not None:
                stack = (*stack, file)
            below = is_folder or depth < len(components)
            if reason := ignore_reason(stack, prefix + component, component, is_folder=below):
                return reason
            prefix += component + "/"
        return ""


def ignore_reason(stack: tuple[IgnoreFile, ...], name: str, leaf: str, *, is_folder: bool) -> str:
    """Return why a name is left out whose parent folders are not; empty if it is not left out.

    Args:
        stack: the files of patterns in the name's folder and in those above, the root's first.
        name: the complete name.
        leaf: its last component.
        is_folder: whether it is a folder.
    """
    for file in reversed(stack):
        reason = file.decide(name, leaf, is_folder=is_folder)
        if reason is not None:
            return reason
    return ""


def _own_expression(expression: str) -> str:
    """Return pathspec's expression of a pattern without the matches of what is below a folder that matches.

    What is below is not considered if the folder is left out, and is its own if a later pattern takes the folder in.
    """
    return expression.replace("(?P<ps_d>/)", r"/\Z")


def ignored_error(name: str, reason: str) -> NotAllowed:
    """Return the error for a name that is left out for a reason of IgnoreRules."""
    return NotAllowed(f"{name} {reason}, so it is not shared; change that file to share it", name=name)


def _read(disk: Disk, fd: int, prefix: str, known: IgnoreFile | None) -> IgnoreFile | None:
    """Return the patterns of a folder; `known` are those of the earlier walk.

    Raises:
        BadIgnoreFile: if the file cannot be used.
    """
    where = prefix + IGNORE_FILE
    try:
        handle = disk.open(IGNORE_FILE, os.O_RDONLY | os.O_NONBLOCK, dir_fd=fd)
        try:
            status = disk.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise BadIgnoreFile(f"{where} is no regular file; replace it by one")
            fingerprint = Fingerprint.from_stat(status)
            if known is not None and known.fingerprint == fingerprint:
                known.earlier = None
                return known
            data = disk.pread(handle, MAX_IGNORE_FILE_BYTES + 1, 0)
        finally:
            os.close(handle)
    except FileNotFoundError:
        if known is not None and known.fingerprint is not None:
            known.fingerprint = None
            return known
        return None
    except OSError as error:
        raise BadIgnoreFile(f"{where} cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(data) > MAX_IGNORE_FILE_BYTES:
        raise BadIgnoreFile(f"{where} is longer than {MAX_IGNORE_FILE_BYTES >> 10} KiB; shorten it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadIgnoreFile(f"{where} is not UTF-8 text; save it as such") from error
    file = IgnoreFile(prefix, text, fingerprint)
    if known is not None:
        known.earlier = None
        file.earlier = known
    return file
