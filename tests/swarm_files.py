"""Contents and their manifests, for tests of transfers."""

from blake3 import blake3

from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest


def manifest_of(content: bytes) -> Manifest:
    """The manifest of contents of any length, made as the .proto says."""
    pieces = (content[at : at + PIECE_LENGTH_MIN] for at in range(0, len(content), PIECE_LENGTH_MIN))
    return Manifest(len(content), PIECE_LENGTH_MIN, b"".join(blake3(piece).digest() for piece in pieces))
