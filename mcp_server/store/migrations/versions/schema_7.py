"""Schedules, and indexes for queues of thousands."""

from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    op.execute("CREATE INDEX ix_builds_to_cancel ON builds (status) WHERE cancel_requested IS 1")
    op.execute("CREATE INDEX ix_builds_served ON builds (project_id, started_at)")
    op.execute("CREATE INDEX ix_builds_counts ON builds (project_id, status, priority)")
    op.execute(
        """CREATE TABLE schedules (
        name VARCHAR NOT NULL PRIMARY KEY, rule VARCHAR NOT NULL, done_until DATETIME NOT NULL, build INTEGER,
        said TEXT)"""
    )
