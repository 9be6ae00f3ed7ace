"""The version of pserver and pclient, as `--version` prints it."""

VERSION = "0.1.0"
