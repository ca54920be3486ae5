"""Since when a stage's host cannot be reached."""

from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    op.execute("ALTER TABLE stages ADD COLUMN unreachable_since DATETIME")
