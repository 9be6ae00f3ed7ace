"""Hard links of files from outside: what the system refuses is one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import BadUsage
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles

NOBODY = 65534
LINK = """
import os, sys
from pathlib import Path
from daemon.errors import PeerError
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles

# After the imports: the user may not be able to read the interpreter's folders.
os.setegid(int(sys.argv[3]))
os.seteuid(int(sys.argv[3]))
folder = SharedFolder(Path(sys.argv[1]))
try:
    with TempFiles(folder).link_in(Path(sys.argv[2]), folder.volumes.main) as file:
        print("linked", file.size)
except PeerError as error:
    print(error.code, error.message)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def link_as_nobody(shared: Path, path: Path) -> str:
    paths = [entry for entry in sys.path if entry]
    run = subprocess.run(
        [sys.executable, "-c", LINK, str(shared), str(path), str(NOBODY)],
        env={"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout.strip()


@pytest.mark.root
def test_the_file_of_another_user_cannot_be_linked(open_folder: Path) -> None:
    shared = open_folder / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    path = open_folder / "theirs.bin"
    path.write_bytes(b"theirs")
    assert link_as_nobody(shared, path) == (
        f"not_allowed {path} belongs to another user, and the system lets only that user link it: it can only be copied"
    )
    os.chown(path, NOBODY, NOBODY)
    assert link_as_nobody(shared, path) == "linked 6"
    assert os.listdir(shared / ".p2p") == []


def test_what_is_no_regular_file_any_more_is_not_linked(tmp_path: Path) -> None:
    folder = SharedFolder(tmp_path / "shared")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadUsage, match="not a regular file any more"):
        TempFiles(folder).link_in(tmp_path / "pipe", folder.volumes.main)
    assert os.listdir(folder.root / ".p2p") == []
    folder.close()
