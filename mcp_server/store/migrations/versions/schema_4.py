"""Tokens of the service."""

from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    op.execute(
        """CREATE TABLE tokens (
        id VARCHAR NOT NULL PRIMARY KEY, name VARCHAR NOT NULL UNIQUE, sha256 VARCHAR NOT NULL,
        scope VARCHAR NOT NULL, created_at DATETIME NOT NULL, expires_at DATETIME, used_at DATETIME)"""
    )
