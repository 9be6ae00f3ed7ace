"""Real file systems for tests with the mark `filesystems`: on loop devices, in memory, and bind mounts.

Each is unmounted at the end of its block, also if a program still uses it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Fits the smallest btrfs.
_IMAGE_BYTES = 256 << 20


def run(*command: str | Path) -> str:
    """Run a command that must succeed; return its stdout."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@contextmanager
def unmounting(folder: Path) -> Iterator[Path]:
    """Unmount what is mounted on a folder at the end of the block."""
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


@contextmanager
def loop_device(image: Path, size: int = _IMAGE_BYTES) -> Iterator[str]:
    """Yield a loop device of an image, which is created if it does not exist."""
    if not image.exists():
        with image.open("xb") as file:
            file.truncate(size)
    device = run("losetup", "--find", "--show", image)
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)


@contextmanager
def exfat(image: Path, folder: Path) -> Iterator[Path]:
    """Mount a new exFAT file system on a folder."""
    with loop_device(image) as device:
        run("mkfs.exfat", device)
        with exfat_on(device, folder):
            yield folder


@contextmanager
def exfat_on(device: str, folder: Path) -> Iterator[Path]:
    """Mount the exFAT file system of a device on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount.exfat-fuse", device, folder)
    with unmounting(folder):
        yield folder


@contextmanager
def btrfs(image: Path, folder: Path) -> Iterator[Path]:
    """Mount a new btrfs on a folder."""
    with loop_device(image) as device:
        run("mkfs.btrfs", "--quiet", device)
        with mounted(folder, device):
            yield folder


@contextmanager
def tmpfs(folder: Path, size: str = "64m") -> Iterator[Path]:
    """Mount a new tmpfs on a folder."""
    with mounted(folder, "none", "-t", "tmpfs", "-o", f"size={size}"):
        yield folder


@contextmanager
def overlay(work: Path, folder: Path) -> Iterator[Path]:
    """Mount an overlay whose layers are in a tmpfs on a folder."""
    with tmpfs(work):
        layers = [work / name for name in ("lower", "upper", "work")]
        for layer in layers:
            layer.mkdir()
        lower, upper, scratch = layers
        options = f"lowerdir={lower},upperdir={upper},workdir={scratch}"
        with mounted(folder, "none", "-t", "overlay", "-o", options):
            yield folder


@contextmanager
def bind(source: Path, folder: Path) -> Iterator[Path]:
    """Mount a folder on another one."""
    with mounted(folder, str(source), "--bind"):
        yield folder


@contextmanager
def mounted(folder: Path, source: str, *options: str) -> Iterator[Path]:
    """Mount something on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", *options, source, folder)
    with unmounting(folder):
        yield folder


def remount(folder: Path, mode: str) -> None:
    """Make a bind mount read-only (`ro`) or writable (`rw`)."""
    run("mount", "-o", f"remount,bind,{mode}", folder)


@contextmanager
def small(kind: str, image: Path, folder: Path) -> Iterator[Path]:
    """Mount a new file system of about 256 MiB on a folder: `ext4`, `btrfs` or `tmpfs`."""
    if kind == "tmpfs":
        with tmpfs(folder, "256m"):
            yield folder
        return
    with loop_device(image) as device:
        run(f"mkfs.{kind}", "-q", device)
        with mounted(folder, device):
            yield folder
