"""The page for people: what the tracker knows, shown. It decides nothing and changes nothing of the network."""
