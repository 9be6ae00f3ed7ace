"""The tracker: who is here, who holds what, and who may ask whom for it. It never touches a file's bytes."""

VERSION = "0.1.0"
