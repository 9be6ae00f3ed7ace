"""Alembic's environment. A new state is one more file in `versions`, with the next number."""
