"""A pserver with a disk fault, run in place of peer/pserver.py.

TEST_DISK=kill:OPERATION:N kills it at the N-th disk operation, counted from the first of kind OPERATION.
TEST_DISK=small:SIZE:FOLDER mounts a tmpfs of SIZE on FOLDER, visible to this process only.
Without TEST_DISK there is no fault.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(TOP / "peer"), str(TOP / "tests")]

_NEW_MOUNTS = 0x00020000


def main() -> int:
    """Run the pserver; return its exit status."""
    from daemon.main import main as pserver  # noqa: PLC0415
    from daemon.storage.disk import Disk  # noqa: PLC0415
    from failing_disk import KillingDisk  # noqa: PLC0415  # after the path is set

    class KillingAfter(KillingDisk):
        """Counts operations from the first one of a kind."""

        def __init__(self, first: str, number: int) -> None:
            super().__init__(number)
            self._first = first
            self._counting = False
            self.arm()

        def before_operation(self, number: int, operation: str) -> None:
            if operation == self._first and not self._counting:
                self._counting = True
                self.count = 1
            if self._counting:
                super().before_operation(self.count, operation)

    disk: Disk | None = None
    kind, _, rest = os.environ.get("TEST_DISK", "").partition(":")
    if kind == "kill":
        operation, _, number = rest.partition(":")
        disk = KillingAfter(operation, int(number))
    elif kind == "small":
        size, _, folder = rest.partition(":")
        Path(folder).mkdir(parents=True, exist_ok=True)
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
            raise OSError(ctypes.get_errno(), "unshare")
        for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={size}", "none", folder]):
            subprocess.run(["mount", *command], check=True, stdin=subprocess.DEVNULL)
    return pserver(sys.argv[1:], disk)


if __name__ == "__main__":
    sys.exit(main())
