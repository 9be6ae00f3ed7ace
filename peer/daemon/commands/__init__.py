"""The commands of this peer's own user: download, upload, remove."""
