"""The migrations, one for each state number."""
