"""One file from many holders: which piece of whom next."""
