"""Workers: which lock each holds, and a print of each section of its config.yaml."""

from alembic import op

revision = "9"
down_revision = "8"


def upgrade() -> None:
    op.execute("ALTER TABLE workers ADD COLUMN lock VARCHAR")
    op.execute("ALTER TABLE workers ADD COLUMN config JSON")
