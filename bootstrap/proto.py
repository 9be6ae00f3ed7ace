"""Generates the gRPC code in peer/ from protobufs/pserver.proto; with --check only compares."""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

TOP = Path(__file__).resolve().parent.parent
GENERATED = ("pserver_pb2.py", "pserver_pb2.pyi", "pserver_pb2_grpc.py", "pserver_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Write the GENERATED files into the folder `target`.

    Raises:
        SystemExit: if protoc fails.
    """
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        f"--proto_path={TOP / 'protobufs'}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out=quiet:{target}",
        "pserver.proto",
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def outdated_files() -> list[str]:
    """Return the names of GENERATED files in peer/ that are not what protoc generates now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        return [name for name in GENERATED if (Path(folder) / name).read_bytes() != (TOP / "peer" / name).read_bytes()]


def main(arguments: list[str]) -> int:
    """Generate, or with --check print the files that are out of date; return the exit status."""
    if arguments != ["--check"]:
        generate(TOP / "peer")
        return 0
    stale = outdated_files()
    if stale:
        print(f"out of date: {', '.join(stale)}; run: pipenv run proto", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
