"""Callbacks that wait for their delivery."""

from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.execute(
        """CREATE TABLE callbacks (
        id INTEGER NOT NULL PRIMARY KEY, task_id VARCHAR NOT NULL, event VARCHAR NOT NULL,
        build INTEGER NOT NULL REFERENCES builds (id), url TEXT NOT NULL, body TEXT NOT NULL,
        status VARCHAR NOT NULL, attempts INTEGER NOT NULL, created_at DATETIME NOT NULL, next_at DATETIME,
        last_error TEXT, UNIQUE (task_id, event))"""
    )
    op.execute("CREATE INDEX ix_callbacks_next_at ON callbacks (next_at)")
