"""The database of accounts and sessions. Only this package imports SQLAlchemy and Alembic."""
