"""The tables of the newest state, as the queries use them. The migrations create them; a test compares both."""

import sqlalchemy as sa

# The number of the newest migration. A database with a higher one is of a newer release.
STATE_NUMBER = 2

# Constraints have names, because a later migration can only change what has one.
CONSTRAINT_NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}
metadata = sa.MetaData(naming_convention=CONSTRAINT_NAMES)

# Times are server_time: Unix seconds.
users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_digest", sa.Text, primary_key=True),
    sa.Column("peer_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_name", sa.Text, sa.ForeignKey("users.name", name="fk_sessions_user"), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("loopback", sa.Boolean, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("last_seen", sa.Double, nullable=False),
)

# Facts about the database, by key. Every release reads RELEASE_KEY, also in the database of a newer one.
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
RELEASE_KEY = "release"
