"""The pclient: a menu and commands that drive one's own pserver. Talks to nobody else."""
