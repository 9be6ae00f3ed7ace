"""The release that wrote last, names for constraints, and columns in the words of the glossary.

Releases before 0.2.0 read the column `seen`, so they refuse a database of this state.
"""

import sqlalchemy as sa
from alembic import op

from tracker.account_store.schema import CONSTRAINT_NAMES

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the columns; SQLite copies both tables for it, which gives them named constraints."""
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    with op.batch_alter_table("users", naming_convention=CONSTRAINT_NAMES) as users:
        users.alter_column("password", new_column_name="password_hash", existing_type=sa.Text, existing_nullable=False)
        users.alter_column("since", new_column_name="created", type_=sa.Double, existing_nullable=False)
    with op.batch_alter_table("sessions", naming_convention=CONSTRAINT_NAMES) as sessions:
        sessions.alter_column("user", new_column_name="user_name", existing_type=sa.Text, existing_nullable=False)
        sessions.alter_column("url", new_column_name="address", existing_type=sa.Text, existing_nullable=False)
        sessions.alter_column("loopback", type_=sa.Boolean, existing_nullable=False)
        sessions.alter_column("since", new_column_name="created", type_=sa.Double, existing_nullable=False)
        sessions.alter_column("seen", new_column_name="last_seen", type_=sa.Double, existing_nullable=False)
