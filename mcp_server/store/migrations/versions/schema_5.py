"""Imported projects, and deliveries of webhooks."""

from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    op.execute("ALTER TABLE projects ADD COLUMN source VARCHAR")
    op.execute("ALTER TABLE projects ADD COLUMN reason VARCHAR")
    op.execute("ALTER TABLE projects ADD COLUMN synced_at DATETIME")
    op.execute("CREATE TABLE deliveries (id VARCHAR NOT NULL PRIMARY KEY, received_at DATETIME NOT NULL, said TEXT)")
