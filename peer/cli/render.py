"""Renders results, lists and status as JSON objects and as lines. Pure: the screen writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli.daemon_client import LoginResult
from cli.progress import as_line
from common import formatting
from common.control_messages import Downloaded, Removed, Uploaded
from common.status_messages import ListedFile, ListedPeer, Status, TransferStatus

JSONObject = dict[str, object]

# A transfer of fewer seconds has no meaningful rate.
_MIN_MEASURED_SECONDS = 0.5


def result_object(file: Downloaded | Uploaded | Removed) -> JSONObject:
    """The JSON object of a result of download, upload or remove."""
    match file:
        case Downloaded():
            return _downloaded_object(file)
        case Uploaded():
            return _uploaded_object(file)
        case Removed():
            return {"name": file.name, "id": file.id, "size": file.size, "removed": True}


def _downloaded_object(file: Downloaded) -> JSONObject:
    return {
        "name": file.name,
        "id": file.id,
        "size": file.size,
        "path": file.path,
        "seconds": float(file.seconds),
        "holders": list(file.holders),
        "resumed_bytes": file.resumed_bytes,
        "present": file.already_present,
    }


def _uploaded_object(file: Uploaded) -> JSONObject:
    return {"name": file.name, "id": file.id, "size": file.size, "copies": list(file.copies)}


def listed_object(file: ListedFile) -> JSONObject:
    """The JSON object of one version in `files`."""
    return {
        "name": file.name,
        "id": file.id,
        "size": file.size,
        "holders": file.holders,
        "partial": file.partial,
        "modified": file.modified,
        "executable": file.executable,
    }


def peer_object(peer: ListedPeer) -> JSONObject:
    """The JSON object of one peer in `peers`."""
    return {
        "url": peer.address,
        "user": peer.user,
        "files": peer.files,
        "last_seen": float(peer.last_seen),
        "load": {
            "uploads": peer.load.uploads,
            "downloads": peer.load.downloads,
            "free_bytes": peer.load.free_bytes,
            "rate": float(peer.load.rate),
        },
    }


def status_object(status: Status) -> JSONObject:
    """The JSON object of `status`."""
    return {
        "user": status.user or None,
        "logged_in": bool(status.user),
        "url": status.address,
        "tracker": status.tracker,
        "tracker_reached": status.tracker_reached,
        "tracker_fault": status.tracker_fault or None,
        "shared_dir": status.shared_dir,
        "state_dir": status.state_dir,
        "files": status.files,
        "bytes": status.bytes,
        "quota_used": status.quota_used,
        "quota": status.quota,
        "not_shared": [{"name": item.name, "why": item.reason} for item in status.not_shared],
        "not_shared_total": status.not_shared_total,
        "ignored": {"files": status.ignored_files, "folders": status.ignored_folders},
        "transfers": [_transfer_object(transfer) for transfer in status.transfers],
        "faults": list(status.faults),
    }


def _transfer_object(transfer: TransferStatus) -> JSONObject:
    progress = transfer.progress
    return {
        "transfer": transfer.transfer,
        "kind": transfer.kind,
        "phase": progress.phase.value,
        "name": progress.name,
        "done": progress.done,
        "total": progress.total,
        "files_done": progress.files_done,
        "files_total": progress.files_total,
        "rate": float(progress.rate),
        "holders": [
            {
                "url": source.address,
                "rate": float(source.rate),
                "bytes": source.bytes,
                "state": source.state,
                "why": source.reason or None,
            }
            for source in progress.sources
        ],
    }


def logged_in(login: LoginResult) -> str:
    """The line after a login."""
    return f"Logged in as {login.user}" + (" (a new account)" if login.registered else "")


def download_details(file: Downloaded) -> str:
    """Size, time, rate and sources of a download."""
    if file.already_present:
        return f"{formatting.size(file.size)}, identical content, nothing to do"
    text = f"{formatting.size(file.size)} in {file.seconds:.1f} s"
    if file.seconds >= _MIN_MEASURED_SECONDS and file.size > file.resumed_bytes:
        text += f" ({formatting.rate((file.size - file.resumed_bytes) / file.seconds)})"
    if file.holders:
        text += " from " + ", ".join(file.holders)
    if file.resumed_bytes:
        text += f"; resumed at {formatting.size(file.resumed_bytes)}"
    return text


def upload_details(file: Uploaded) -> str:
    """Size, id and copies of an upload."""
    where = "copies at " + ", ".join(file.copies) if file.copies else "shared from this peer"
    return f"{formatting.size(file.size)}, id {formatting.short_id(file.id)}, {where}"


def summary(files: Sequence[Downloaded | Uploaded | Removed], failed: int, seconds: float) -> str:
    """One line about the results of a transfer.

    Args:
        files: Results of one kind, at least one.
        failed: The number of faults.
        seconds: The duration of the transfer.
    """
    new = [file for file in files if not (isinstance(file, Downloaded) and file.already_present)]
    parts = []
    if new:
        done = {Downloaded: "downloaded", Uploaded: "shared", Removed: "removed"}[type(new[0])]
        size = formatting.size(sum(file.size for file in new))
        parts.append(f"{formatting.pluralise(len(new), 'file')}, {size} {done} in {seconds:.1f} s")
    if len(new) < len(files):
        parts.append(f"{len(files) - len(new):,} already present")
    if failed:
        parts.append(f"{failed:,} failed")
    return "; ".join(parts)


def file_rows(files: Iterable[ListedFile]) -> list[list[str]]:
    """Rows under FILE_HEADERS."""
    return [
        [
            formatting.size(file.size),
            "" if file.modified is None else formatting.date(file.modified),
            f"{file.holders:,}",
            f"{file.partial:,}",
            formatting.short_id(file.id),
            file.name,
        ]
        for file in files
    ]


FILE_HEADERS = ("size", "modified", "holders", "partial", "id", "name")
FILE_NUMBERS = ("size", "modified", "holders", "partial")


def peer_rows(peers: Iterable[ListedPeer]) -> list[list[str]]:
    """Rows under PEER_HEADERS."""
    return [
        [
            peer.address,
            peer.user,
            f"{peer.files:,}",
            f"{peer.load.uploads:,}",
            f"{peer.load.downloads:,}",
            formatting.rate(peer.load.rate),
            formatting.size(peer.load.free_bytes),
            formatting.ago(peer.last_seen),
        ]
        for peer in peers
    ]


PEER_HEADERS = ("address", "user", "files", "up", "down", "rate", "free", "seen")
PEER_NUMBERS = ("files", "up", "down", "rate", "free", "seen")


def header_rows(status: Status) -> list[tuple[str, str]]:
    """The user, the addresses and the shared files: what the menu shows after a login."""
    shared = f"{formatting.pluralise(status.files, 'file')}, {formatting.size(status.bytes)}, in {status.shared_dir}"
    reached = "" if status.tracker_reached else f" ({status.tracker_fault or 'not reached'})"
    return [
        ("user", status.user or "(not logged in)"),
        ("address", status.address),
        ("tracker", status.tracker + reached),
        ("sharing", shared if status.user else f"paused (not logged in): {shared}"),
    ]


def status_rows(status: Status) -> list[tuple[str, str]]:
    """All that `status` shows."""
    used = f"{formatting.size(status.quota_used)} of {formatting.size(status.quota)}"
    rows = [
        *header_rows(status),
        ("state", status.state_dir),
        ("replicas", f"{used} (copies stored for other peers)"),
        # The row of the tracker shows its fault.
        *_labelled("faults", [fault for fault in status.faults if fault != status.tracker_fault]),
        *_labelled("ignored", [_ignored(status)] if status.ignored_files or status.ignored_folders else []),
        *_labelled("not shared", [f"{item.name}: {item.reason}" for item in status.not_shared if not item.pending]),
        *_labelled("pending", [f"{item.name}: {item.reason}" for item in status.not_shared if item.pending]),
    ]
    if status.not_shared_total > len(status.not_shared):
        rows.append(("", f"... and {status.not_shared_total - len(status.not_shared):,} more"))
    return [*rows, *_labelled("transfers", [line for each in status.transfers for line in _transfer_lines(each)])]


def _transfer_lines(transfer: TransferStatus) -> list[str]:
    lines = [as_line(transfer.kind, transfer.progress)]
    for source in transfer.progress.sources:
        reason = f" ({source.reason})" if source.reason else ""
        lines.append(f"  {source.address} {source.state}, {formatting.rate(source.rate)}{reason}")
    return lines


def _ignored(status: Status) -> str:
    """What `.p2pignore` leaves out."""
    counts = ((status.ignored_files, "file"), (status.ignored_folders, "folder"))
    return " and ".join(formatting.pluralise(count, word) for count, word in counts if count) + " (.p2pignore)"


def _labelled(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """Rows for lines. Only the first has the label."""
    return [(label if position == 0 else "", line) for position, line in enumerate(lines)]
