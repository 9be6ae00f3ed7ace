"""Connections to other peers, and the limits of all streams and transfers."""
