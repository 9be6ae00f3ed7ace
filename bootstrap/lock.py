"""Locks the packages and writes the requirements of each image.

The lock names no package index, so each machine uses the index it is configured for.

python bootstrap/lock.py                 lock with pipenv, remove the sources from the lock, write the requirements
python bootstrap/lock.py --requirements  write the requirements from the present lock
python bootstrap/lock.py --check         exit with 1 if the requirements are out of date
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
LOCK = TOP / "Pipfile.lock"
IMAGES = ("server", "peer")
HEAD = "# Written from Pipfile.lock by `pipenv run requirements`: pinned and hashed, for the image's build.\n"


def requirements(lock: dict[str, Any], image: str) -> str:
    """Return the text of requirements.txt for the package category that is named after `image`."""
    lines = [HEAD]
    for name, entry in sorted(lock[image].items()):
        extras = f"[{','.join(entry['extras'])}]" if "extras" in entry else ""
        marker = f" ; {entry['markers']}" if "markers" in entry else ""
        pin = f"{name}{extras}{entry['version']}{marker}"
        lines.append(" \\\n    ".join([pin, *(f"--hash={digest}" for digest in sorted(entry["hashes"]))]) + "\n")
    return "".join(lines)


def relock() -> None:
    """Lock with pipenv and remove the sources from the lock."""
    environment = {**os.environ, "PIPENV_IGNORE_VIRTUALENVS": "1", "PIPENV_VENV_IN_PROJECT": "1"}
    subprocess.run([TOP / ".tools/bin/pipenv", "lock"], cwd=TOP, env=environment, check=True)
    lock = json.loads(LOCK.read_text())
    lock["_meta"]["sources"] = []
    LOCK.write_text(json.dumps(lock, indent=4) + "\n")


def main(arguments: list[str]) -> int:
    """Run the command line of the module docstring; return the exit status."""
    if not arguments:
        relock()
    lock = json.loads(LOCK.read_text())
    texts = {TOP / image / "requirements.txt": requirements(lock, image) for image in IMAGES}
    if arguments != ["--check"]:
        for path, text in texts.items():
            path.write_text(text)
        return 0
    stale = [str(path.relative_to(TOP)) for path, text in texts.items() if path.read_text() != text]
    if stale:
        print(f"out of date: {', '.join(stale)}; run: pipenv run requirements", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
