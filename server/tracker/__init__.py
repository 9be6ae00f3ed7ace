"""The tracker: accounts, online peers, the index and tickets. It never touches the bytes of a file."""

VERSION = "0.1.0"
