"""Files to send, and digests to compare."""

import hashlib
import random
from pathlib import Path

CHUNK = 1 << 20


def make_file(path: Path, size: int, rng: random.Random) -> Path:
    """Write `size` bytes of `rng`, folders included; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at in range(0, size, CHUNK):
            file.write(rng.randbytes(min(CHUNK, size - at)))
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file: not the digest that the programs use, so that both cannot be wrong in one way."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_in(folder: Path) -> dict[str, str]:
    """Digest of every file below `folder`, by its name relative to it; dot-folders left out."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = digest(path)
    return found
