"""The pserver: a peer's daemon."""
