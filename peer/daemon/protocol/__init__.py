"""The messages between pservers, their encoding, the streams that carry them, and status codes."""
