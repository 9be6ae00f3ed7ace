"""The files that this peer shares, and the scans that keep the list of them up to date."""
