"""Claims about `.p2pignore`: it leaves out what git would, and in doubt rather more than less."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from daemon.errors import NotAllowed
from daemon.library.library import HashedFile, Library
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.ignore_rules import IGNORE_FILE, MAX_IGNORE_FILE_BYTES
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.walk import ShareableFile, UnshareableEntry

OLD = 1_900_000_000


def put(root: Path, name: str, text: str = "x") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (OLD, OLD))


def ignore(root: Path, *lines: str, folder: str = ".") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / IGNORE_FILE).write_text("".join(f"{line}\n" for line in lines))


def shareable(folder: SharedFolder) -> list[str]:
    return [item.name for item in folder.walk() if isinstance(item, ShareableFile)]


def left_out_by_git(root: Path, names: list[str]) -> set[str]:
    """Return the files that git would leave out if each `.p2pignore` were a `.gitignore`."""
    for path in root.rglob(IGNORE_FILE):
        (path.parent / ".gitignore").write_bytes(path.read_bytes())
    subprocess.run(["git", "init", "--quiet", root], check=True, capture_output=True)
    done = subprocess.run(
        ["git", "-C", root, "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(names).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )
    assert done.returncode in (0, 1), done.stderr
    return set(filter(None, done.stdout.decode().split("\0")))


NAMES = (
    "a.txt",
    "a.tmp",
    "keep.tmp",
    "build/x",
    "build/deep/y",
    "src/build/x",
    "src/build",
    "src/a.tmp",
    "src/keep.tmp",
    "docs/internal/a",
    "docs/x/internal/b",
    "docs/x/b.txt",
    "private/x",
    "src/private/x",
    "~$draft.doc",
    "cache1/x",
    "cache/x",
    "notes one.txt",
    "#hash",
    "!bang",
    "trail ",
    "a[1].txt",
    "a1.txt",
    "\u00e9t\u00e9.jpg",
)
RULES = (
    ["*.tmp"],
    ["*.tmp", "!keep.tmp"],
    ["build/"],
    ["build"],
    ["/build"],
    ["/private/", "docs/**/internal"],
    ["docs/*", "!docs/x"],
    ["**/x", "!/build/x"],
    ["~$*", "cache?/"],
    ["*", "!*/", "!*.txt"],
    ["\\#hash", "\\!bang", "a\\[1\\].txt", "trail\\ "],
    ["# comment", "", "notes one.txt", "a[0-9].txt"],
    ["\u00e9*"],
    ["*.TMP"],
    ["src/", "!src/keep.tmp"],
    ["/*", "!/src", "!/docs"],
    ["*/", "!build/"],
    ["foo/**", "**/build/**"],
)


@pytest.mark.parametrize("lines", RULES, ids=lambda lines: " ".join(lines)[:30])
def test_the_patterns_leave_out_what_git_would(folder: SharedFolder, root: Path, lines: list[str]) -> None:
    names = [name for name in NAMES if name != "src/build"]
    for name in names:
        put(root, name)
    shared = set(shareable(folder))
    ignore(root, *lines)
    left_out = left_out_by_git(root, names)
    assert set(shareable(folder)) == shared - left_out
    for name in names:
        assert bool(folder.ignore_rules.reason_for(name)) == (name in left_out), name


@pytest.mark.parametrize("seed", range(10))
def test_files_of_patterns_in_any_folder_leave_out_what_git_would(folder: SharedFolder, root: Path, seed: int) -> None:
    chance = random.Random(seed)
    folders = ["", "a/", "a/b/", "c/", "c/b/a/"]
    names = sorted({f"{chance.choice(folders)}{chance.choice('abcx')}{chance.choice(['', '.tmp'])}" for _ in range(40)})
    names = [name for name in names if not any(other.startswith(f"{name}/") for other in [*names, *folders])]
    for name in names:
        put(root, name)
    parts = ["a", "b", "x", "*.tmp", "a*", "*b", "a.tmp", "c/b", "a/b", "**/x", "b/**", "?.tmp", "*"]
    for place in folders:
        if chance.random() < 0.6:
            chosen = chance.sample(parts, 3)
            lines = [
                chance.choice(["", "", "!"]) + chance.choice(["", "", "/"]) + part + chance.choice(["", "", "/"])
                for part in chosen
            ]
            ignore(root, *lines, folder=place or ".")
    left_out = left_out_by_git(root, names)
    assert set(shareable(folder)) == set(names) - left_out


def test_the_folders_and_files_that_are_left_out_are_counted_and_not_read(folder: SharedFolder, root: Path) -> None:
    for name in ("a.txt", "b.tmp", "x/c.tmp", "node_modules/1", "node_modules/2/3", "x/node_modules/4"):
        put(root, name)
    ignore(root, "*.tmp", "node_modules/")
    opened: list[str] = []
    disk_open = folder.disk.open

    def record(path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        opened.append(path)
        return disk_open(path, flags, mode=mode, dir_fd=dir_fd)

    folder.disk.open = record  # type: ignore[method-assign]
    assert shareable(folder) == ["a.txt"]
    assert (folder.ignore_rules.files, folder.ignore_rules.folders) == (2, 2)
    assert "node_modules" not in opened


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\xff\xfe*\x00", "UTF-8"),
        (b"a\n[z-a]\n", "no pattern"),
        (b"x\n" * (MAX_IGNORE_FILE_BYTES // 2 + 1), "longer than"),
        (None, "regular file"),
    ],
)
def test_a_folder_whose_patterns_cannot_be_used_is_not_shared(
    folder: SharedFolder, root: Path, content: bytes | None, part: str
) -> None:
    for name in ("a", "sub/b", "sub/deep/c"):
        put(root, name)
    if content is None:
        (root / "sub" / IGNORE_FILE).mkdir()
    else:
        (root / "sub" / IGNORE_FILE).write_bytes(content)
    found = list(folder.walk())
    assert [item.name for item in found if isinstance(item, ShareableFile)] == ["a"]
    [entry] = [item for item in found if isinstance(item, UnshareableEntry)]
    assert entry.name == "sub" and part in entry.reason and f"sub/{IGNORE_FILE}" in entry.reason
    assert folder.ignore_rules.reason_for("sub/b") and not folder.ignore_rules.reason_for("a")


def test_a_link_is_no_file_of_patterns(folder: SharedFolder, root: Path, tmp_path: Path) -> None:
    put(root, "a")
    (tmp_path / "elsewhere").write_text("")
    (root / IGNORE_FILE).symlink_to(tmp_path / "elsewhere")
    assert shareable(folder) == []


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_pattern(folder: SharedFolder, root: Path) -> None:
    for name in ("a.tmp", "b"):
        put(root, name)
    (root / IGNORE_FILE).write_bytes("\ufeff*.tmp\r\n".encode())
    assert shareable(folder) == ["b"]


def test_a_changed_file_of_patterns_takes_names_in_one_walk_later(folder: SharedFolder, root: Path) -> None:
    for name in ("a.tmp", "b.log", "c"):
        put(root, name)
    ignore(root, "*.tmp")
    assert shareable(folder) == ["b.log", "c"]
    # As an editor does that writes the file anew.
    ignore(root)
    assert shareable(folder) == ["b.log", "c"]
    ignore(root, "*.log")
    assert shareable(folder) == ["a.tmp", "c"]
    assert shareable(folder) == ["a.tmp", "c"]
    (root / IGNORE_FILE).unlink()
    assert shareable(folder) == ["a.tmp", "c"]
    assert shareable(folder) == ["a.tmp", "b.log", "c"]


def shared(library: Library) -> list[str]:
    return [entry.name for entry in library.snapshot().entries]


def test_new_patterns_withdraw_files_at_the_next_scan_and_hash_none(
    folder: SharedFolder, root: Path, scanner: Scanner, library: Library
) -> None:
    for name in ("a.tmp", "b", "old/c"):
        put(root, name)
    scanner.scan()
    ignore(root, "*.tmp", "old/")
    put(root, "new.tmp")
    hashed: list[str] = []
    assert scanner.scan(progress=lambda name, size: hashed.append(name)).removed == 2
    assert scanner.scan(progress=lambda name, size: hashed.append(name)).removed == 0
    assert shared(library) == ["b"]
    assert (hashed, scanner.pending, scanner.not_shared) == ([], {}, [])


def test_a_replica_that_is_left_out_still_counts_towards_the_quota(
    root: Path, scanner: Scanner, library: Library, cache: ManifestCache
) -> None:
    put(root, "a.tmp")
    fingerprint = Fingerprint.from_stat((root / "a.tmp").stat())
    library.register([HashedFile("a.tmp", fingerprint, Manifest.of_bytes(b"x"))], replica=True)
    ignore(root, "*.tmp")
    scanner.scan()
    assert shared(library) == []
    assert cache.replica_usage() == (1, 1)


def test_a_command_cannot_share_what_is_left_out(root: Path, scanner: Scanner, library: Library) -> None:
    for name in ("a.tmp", "b"):
        put(root, name)
    ignore(root, "*.tmp")
    scanner.scan()
    refused, allowed = scanner.index_files(["a.tmp", "b"])
    assert isinstance(refused, NotAllowed) and "'*.tmp' in .p2pignore" in refused.message
    assert not isinstance(allowed, Exception)
    assert shared(library) == ["b"]
