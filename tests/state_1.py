"""The database of the releases before 0.2.0."""

# Exactly what the releases before 0.2.0 ran at each start.
STATE_1 = """
PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    token_digest TEXT PRIMARY KEY, peer_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES users(name),
    url TEXT NOT NULL, loopback INTEGER NOT NULL, since REAL NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
"""
