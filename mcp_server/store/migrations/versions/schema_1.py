"""The first schema. New databases are made whole, so there is nothing to do."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """A database of schema 1 is one."""
