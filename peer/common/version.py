"""The version of pserver and pclient, as `--version` prints it, and the protocols that they speak."""

VERSION = "0.2.0"
# The oldest and the newest protocol that this release speaks. A program that sends no numbers speaks 1.
PROTOCOL = (1, 2)
