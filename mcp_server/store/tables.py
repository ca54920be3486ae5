"""The tables, in portable SQL; times are naive UTC on disk and aware in Python."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 9

metadata = sa.MetaData()

# SQLite gives numbers by itself only to a column of this very type; its integers have 64 bits all the same.
BigInteger = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime: SQLite has no time zones, and a naive time is a mistake waiting."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        """For SQLite the text that SQLAlchemy's own would make, in half the time: a stage writes ten of them."""
        return _as_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)


def _as_text(value: datetime | None) -> str | None:
    return value and value.astimezone(UTC).isoformat(" ", "microseconds")[:26]  # without the zone


META = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

PROJECTS = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("path", sa.String, nullable=False, unique=True),
    sa.Column("status", sa.String, nullable=False, server_default="active"),
    sa.Column("target", sa.String),
    sa.Column("branch", sa.String),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("source", sa.String),
    sa.Column("reason", sa.String),
    sa.Column("synced_at", UtcTime),
)

BUILDS = sa.Table(
    "builds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.String, sa.ForeignKey("projects.id"), nullable=False, index=True),
    sa.Column("commit_sha", sa.String, nullable=False, server_default=""),
    sa.Column("commit_message", sa.String),
    sa.Column("commit_author", sa.String),
    sa.Column("branch", sa.String),
    sa.Column("triggered_by", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("started_at", UtcTime),
    sa.Column("completed_at", UtcTime),
    sa.Column("duration", sa.Float),
    sa.Column("build_output", sa.Text),
    sa.Column("test_results", sa.JSON),
    sa.Column("artifacts_path", sa.String),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("task_id", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("target", sa.String),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("args_key", sa.String, nullable=False, index=True),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("retry_of", sa.Integer, sa.ForeignKey("builds.id")),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("place", sa.String),
    sa.Column("machine", sa.String),
    sa.Column("worker", sa.String),
    sa.Column("claim", sa.Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,  # an id is never given twice
)
# A worker asks at each wake who is to be cancelled: with thousands waiting, none of their rows is read for it.
_to_cancel = BUILDS.c.cancel_requested.is_(True)
_of_those = sa.Index("ix_builds_to_cancel", BUILDS.c.status, sqlite_where=_to_cancel)
sa.Index("ix_builds_served", BUILDS.c.project_id, BUILDS.c.started_at)
# Counting reads no row: a row has a plan, which is long.
sa.Index("ix_builds_counts", BUILDS.c.project_id, BUILDS.c.status, BUILDS.c.priority)

STAGES = sa.Table(
    "stages",
    metadata,
    sa.Column("build", sa.Integer, sa.ForeignKey("builds.id"), primary_key=True),
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("exit_code", sa.Integer),
    sa.Column("job_id", sa.String),
    sa.Column("spec_sha256", sa.String),
    sa.Column("resolved", sa.JSON),
    sa.Column("started_at", UtcTime),
    sa.Column("ended_at", UtcTime),
    sa.Column("progress", sa.JSON),
    sa.Column("verdict", sa.JSON),
    sa.Column("unreachable_since", UtcTime),
)

EVENTS = sa.Table(
    "events",
    metadata,
    sa.Column("id", BigInteger, primary_key=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("build", sa.Integer, index=True),
    sa.Column("ts", UtcTime, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sqlite_autoincrement=True,  # a progress event that was replaced must not give its id to another
)

LEASES = sa.Table(
    "leases",
    metadata,
    sa.Column("resource", sa.String, primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("build", sa.Integer, nullable=False, index=True),
    sa.Column("stage", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("taken_at", UtcTime, nullable=False),
)

ARTIFACTS = sa.Table(
    "artifacts",
    metadata,
    sa.Column("build", sa.Integer, sa.ForeignKey("builds.id"), primary_key=True),
    sa.Column("stage", sa.String, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("size", BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("offset", sa.String),
)

CALLBACKS = sa.Table(
    "callbacks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("build", sa.Integer, sa.ForeignKey("builds.id"), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("next_at", UtcTime),
    sa.Column("last_error", sa.Text),
    sa.UniqueConstraint("task_id", "event"),
    sa.Index("ix_callbacks_next_at", "next_at"),
)

TOKENS = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("scope", sa.String, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
    sa.Column("used_at", UtcTime),
)

DELIVERIES = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("received_at", UtcTime, nullable=False),
    sa.Column("said", sa.Text),
    sa.Column("push", sa.JSON),
)

SCHEDULES = sa.Table(
    "schedules",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("rule", sa.String, nullable=False),
    sa.Column("done_until", UtcTime, nullable=False),
    sa.Column("build", sa.Integer),
    sa.Column("said", sa.Text),
)

WORKERS = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("machine", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("home", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("number", sa.Integer),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("until", UtcTime, nullable=False),
    sa.Column("lock", sa.String),
    sa.Column("config", sa.JSON),
)


def for_dialect(name: str) -> sa.MetaData:
    """The tables to be made on a kind of database. Said here, its own words would load it in every process."""
    if name == "postgresql":
        _of_those.dialect_kwargs["postgresql_where"] = _to_cancel
    return metadata
