"""To other peers, and what bounds them."""
