"""The version of the peer's programs, as `--version` shows it."""

VERSION = "0.1.0"
