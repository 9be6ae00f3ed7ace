"""Test files and their digests."""

import hashlib
import random
from pathlib import Path

CHUNK = 1 << 20


def make_file(path: Path, size: int, rng: random.Random) -> Path:
    """Write a file of `size` random bytes, with its parent folders; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at in range(0, size, CHUNK):
            file.write(rng.randbytes(min(CHUNK, size - at)))
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file. The programs use another digest, so both cannot be wrong in the same way."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_in(folder: Path) -> dict[str, str]:
    """Return the digest of every file below `folder` by relative name, without hidden files and folders."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = digest(path)
    return found
