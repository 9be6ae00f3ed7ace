"""Code that pserver and pclient share. Imports neither of them."""
