"""One file from many sources: which piece to request from which source, and when to give up."""
