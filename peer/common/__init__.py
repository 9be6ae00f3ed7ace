"""What the pserver and its terminal both need, and nothing else. Imports neither of them."""
