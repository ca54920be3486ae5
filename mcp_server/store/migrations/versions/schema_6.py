"""A delivery's push, so that it can be worked on again."""

from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    op.execute("ALTER TABLE deliveries ADD COLUMN push JSON")
