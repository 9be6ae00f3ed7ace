"""One file, or thousands of small ones, to here or from here."""
