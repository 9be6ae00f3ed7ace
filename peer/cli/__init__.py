"""The command-line client of one pserver: a menu and commands. It calls no other process."""
