"""Puts the pserver together, group by group; nothing here decides, listens, starts or ends.

ground  ->  holdings  ->  membership  ->  moving  ->  orders: each is made of those before it. A group's attributes are
what others are made of, or what the daemon runs.
"""
