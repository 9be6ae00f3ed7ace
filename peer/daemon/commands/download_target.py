"""Where the files of one download command go: the shared folder, and perhaps a copy outside it. Writes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import BadUsage
from daemon.storage.names import check_name


@dataclass(frozen=True, slots=True)
class DownloadTarget:
    """The output option of a download. Made by `parse`."""

    # Another name in the shared folder; empty if files keep their names.
    new_name: str
    # Where the copies outside go: a folder, or the copy itself. None if there are no copies.
    copy_path: Path | None
    copy_into_folder: bool

    @classmethod
    def parse(cls, output: str, *, multiple: bool) -> DownloadTarget:
        """Read the output option. Checks on disk whether a path is a folder.

        Args:
            output: Empty, another name for the shared folder (without "/"), or an absolute path outside it.
            multiple: Whether the command downloads several files.

        Raises:
            BadUsage: The path is not absolute, or several files cannot have one name.
            BadName: The name breaks a rule of names.
        """
        if "/" not in output:
            if multiple and output:
                raise BadUsage(f"several files cannot get one name; to copy them into a folder, enter {output}/")
            return cls(check_name(output) if output else "", None, copy_into_folder=False)
        path = Path(output)
        if not path.is_absolute():
            raise BadUsage("the path of a copy outside the shared folder should be absolute")
        # Not `path.is_dir()`, which raises for a name that is too long; the copy reports that fault.
        into_folder = multiple or output.endswith("/") or os.path.isdir(output)
        return cls("", path, copy_into_folder=into_folder)

    def copy_path_of(self, local_name: str) -> Path | None:
        """Return the path of the copy outside the shared folder; None if there is none."""
        if self.copy_path is None or not self.copy_into_folder:
            return self.copy_path
        return self.copy_path / local_name

    def result_path(self, local_name: str, shared_dir: Path) -> str:
        """Return the absolute path of the file that the user asked for."""
        return str(self.copy_path_of(local_name) or os.path.join(shared_dir, local_name))
