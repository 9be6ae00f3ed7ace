"""What happened, as JSON objects and as lines. Pure: the screen writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cli import formatting, models
from cli.progress import as_line

JSONObject = dict[str, object]

# Seconds from which on a transfer's rate means something.
_MEASURABLE = 0.5


def result_object(file: models.Downloaded | models.Uploaded | models.Removed) -> JSONObject:
    """--json of download, upload or remove."""
    match file:
        case models.Downloaded():
            return _downloaded_object(file)
        case models.Uploaded():
            return _uploaded_object(file)
        case models.Removed():
            return {"name": file.name, "id": file.id, "size": file.size, "removed": True}


def _downloaded_object(file: models.Downloaded) -> JSONObject:
    return {
        "name": file.name,
        "id": file.id,
        "size": file.size,
        "path": file.path,
        "seconds": float(file.seconds),
        "holders": list(file.holders),
        "resumed_bytes": file.resumed_bytes,
        "present": file.present,
    }


def _uploaded_object(file: models.Uploaded) -> JSONObject:
    return {"name": file.name, "id": file.id, "size": file.size, "copies": list(file.copies)}


def listed_object(file: models.ListedFile) -> JSONObject:
    """--json of files."""
    return {"name": file.name, "id": file.id, "size": file.size, "holders": file.holders, "partial": file.partial}


def peer_object(peer: models.ListedPeer) -> JSONObject:
    """--json of peers."""
    return {
        "url": peer.url,
        "user": peer.user,
        "files": peer.files,
        "last_seen": float(peer.last_seen),
        "load": {
            "uploads": peer.uploads,
            "downloads": peer.downloads,
            "free_bytes": peer.free_bytes,
            "rate": float(peer.rate),
        },
    }


def status_object(status: models.Status) -> JSONObject:
    """--json of status."""
    return {
        "user": status.user or None,
        "logged_in": bool(status.user),
        "url": status.url,
        "tracker": status.tracker,
        "tracker_reached": status.tracker_reached,
        "tracker_fault": status.tracker_fault or None,
        "shared_dir": status.shared_dir,
        "state_dir": status.state_dir,
        "files": status.files,
        "bytes": status.bytes,
        "quota_used": status.quota_used,
        "quota": status.quota,
        "not_shared": [{"name": name, "why": why} for name, why in status.not_shared],
        "not_shared_total": status.not_shared_total,
        "transfers": [_transfer_object(transfer) for transfer in status.transfers],
    }


def _transfer_object(transfer: models.Transfer) -> JSONObject:
    progress = transfer.progress
    return {
        "transfer": transfer.transfer,
        "kind": transfer.kind,
        "phase": progress.phase,
        "name": progress.name,
        "done": progress.done,
        "total": progress.total,
        "files_done": progress.files_done,
        "files_total": progress.files_total,
        "rate": float(progress.rate),
        "holders": [
            {
                "url": source.url,
                "rate": float(source.rate),
                "bytes": source.bytes,
                "state": source.state,
                "why": source.why or None,
            }
            for source in progress.sources
        ],
    }


def download_details(file: models.Downloaded) -> str:
    """What is worth telling of a download, beside where it lies."""
    if file.present:
        return f"{formatting.size(file.size)}, the same contents lay here already"
    parts = [f"{formatting.size(file.size)} verified in {file.seconds:.1f} s"]
    # What took less tells nothing of the line.
    if file.seconds >= _MEASURABLE and file.size > file.resumed_bytes:
        parts.append(formatting.rate((file.size - file.resumed_bytes) / file.seconds))
    if file.resumed_bytes:
        parts.append(f"{formatting.size(file.resumed_bytes)} of it from an earlier try")
    if file.holders:
        parts.append("from " + ", ".join(file.holders))
    return ", ".join(parts)


def upload_details(file: models.Uploaded) -> str:
    """What is worth telling of an upload."""
    where = "also at " + ", ".join(file.copies) if file.copies else "shared here"
    return f"{formatting.size(file.size)}, id {formatting.short_id(file.id)}, {where}"


def summary(files: Sequence[models.Downloaded | models.Uploaded | models.Removed], failed: int, seconds: float) -> str:
    """What is worth telling of many files that came or went in these seconds, beside those that did not."""
    new = [file for file in files if not (isinstance(file, models.Downloaded) and file.present)]
    parts = []
    if new:
        done = {models.Downloaded: "verified", models.Uploaded: "shared", models.Removed: "removed"}[type(new[0])]
        size = formatting.size(sum(file.size for file in new))
        parts.append(f"{formatting.pluralise(len(new), 'file')}, {size} {done} in {seconds:.1f} s")
    if len(new) < len(files):
        parts.append(f"{len(files) - len(new):,} lay here already")
    if failed:
        parts.append(f"{failed:,} failed")
    return "; ".join(parts)


def file_rows(files: Iterable[models.ListedFile]) -> list[list[str]]:
    """Rows under FILE_HEADERS."""
    return [
        [formatting.size(file.size), f"{file.holders:,}", f"{file.partial:,}", formatting.short_id(file.id), file.name]
        for file in files
    ]


FILE_HEADERS = ("size", "holders", "partial", "id", "name")
FILE_NUMBERS = ("size", "holders", "partial")


def peer_rows(peers: Iterable[models.ListedPeer]) -> list[list[str]]:
    """Rows under PEER_HEADERS."""
    return [
        [
            peer.url,
            peer.user,
            f"{peer.files:,}",
            f"{peer.uploads:,}",
            f"{peer.downloads:,}",
            formatting.rate(peer.rate),
            formatting.size(peer.free_bytes),
            formatting.ago(peer.last_seen),
        ]
        for peer in peers
    ]


PEER_HEADERS = ("address", "user", "files", "up", "down", "rate", "free", "seen")
PEER_NUMBERS = ("files", "up", "down", "rate", "free", "seen")


def header(status: models.Status) -> list[tuple[str, str]]:
    """Who I am, which tracker, what I share."""
    shared = f"{formatting.pluralise(status.files, 'file')}, {formatting.size(status.bytes)}, in {status.shared_dir}"
    return [
        ("user", status.user or "nobody is logged in"),
        ("address", status.url),
        ("tracker", status.tracker + ("" if status.tracker_reached else f" - {status.tracker_fault or 'not reached'}")),
        ("sharing", shared if status.user else f"nothing until somebody logs in; then {shared}"),
    ]


def status_rows(status: models.Status) -> list[tuple[str, str]]:
    """All of it."""
    rows = [
        *header(status),
        ("state", status.state_dir),
        (
            "for others",
            f"{formatting.size(status.quota_used)} of {formatting.size(status.quota)} kept at others' request",
        ),
    ]
    for place, (name, why) in enumerate(status.not_shared):
        rows.append(("not shared" if place == 0 else "", f"{name}: {why}"))
    if status.not_shared_total > len(status.not_shared):
        rows.append(("", f"and {status.not_shared_total - len(status.not_shared):,} more"))
    for place, transfer in enumerate(status.transfers):
        rows.append(("transfers" if place == 0 else "", as_line(transfer.kind, transfer.progress)))
        rows.extend(
            (
                "",
                f"  {source.url} {source.state}, {formatting.rate(source.rate)}"
                + (f" ({source.why})" if source.why else ""),
            )
            for source in transfer.progress.sources
        )
    return rows
