"""The tracker: accounts, online peers, the index and tickets. It never touches the bytes of a file."""

VERSION = "0.2.0"
# The oldest and the newest protocol that this release speaks. A program that sends no numbers speaks 1.
PROTOCOL = (1, 2)
