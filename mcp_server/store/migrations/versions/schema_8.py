"""Several workers: which of them are there, who has a build, and which machine a build belongs to."""

from alembic import op

revision = "8"
down_revision = "7"


def upgrade() -> None:
    op.execute("ALTER TABLE builds ADD COLUMN place VARCHAR")
    op.execute("ALTER TABLE builds ADD COLUMN machine VARCHAR")
    op.execute("ALTER TABLE builds ADD COLUMN worker VARCHAR")
    op.execute("ALTER TABLE builds ADD COLUMN claim INTEGER DEFAULT '0' NOT NULL")
    op.execute(
        """CREATE TABLE workers (
        id VARCHAR NOT NULL PRIMARY KEY, machine VARCHAR NOT NULL, name VARCHAR NOT NULL, home VARCHAR NOT NULL,
        pid INTEGER NOT NULL, version VARCHAR NOT NULL, state VARCHAR NOT NULL, number INTEGER,
        started_at DATETIME NOT NULL, seen_at DATETIME NOT NULL, until DATETIME NOT NULL)"""
    )
    op.execute("DROP TRIGGER events_remain")
    op.execute(
        """CREATE TRIGGER events_remain BEFORE DELETE ON events
        WHEN OLD.type != 'workflow.progress'
         AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'events_from' AND OLD.id < CAST(value AS INTEGER))
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"""
    )
