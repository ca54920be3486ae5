"""The statements of builds and stages that are run all the time: making one of Core takes longer than running it."""

from functools import cache

import sqlalchemy as sa

from mcp_server.model import BuildStatus
from mcp_server.store.prepared import Prepared
from mcp_server.store.tables import BUILDS, PROJECTS, STAGES


def is_one_of(states: tuple[BuildStatus, ...]) -> sa.ColumnElement[bool]:
    """Whether a build is in one of these states, which are part of the text: a `Prepared` has no lists to fill in."""
    return BUILDS.c.status.in_([sa.literal_column(f"'{status}'") for status in states])


_is_build = BUILDS.c.id == sa.bindparam("of_id")
BUILD = Prepared(sa.select(BUILDS).where(_is_build))
BUILD_OF_PLAN = Prepared(sa.select(*(column for column in BUILDS.c if column is not BUILDS.c.plan)).where(_is_build))
BEGAN = Prepared(sa.select(BUILDS.c.started_at).where(_is_build))
_path = sa.select(PROJECTS.c.path).where(PROJECTS.c.id == BUILDS.c.project_id).correlate(BUILDS)
BEGIN = Prepared(
    sa.update(BUILDS)
    .where(_is_build, is_one_of((BuildStatus.PENDING,)))
    .values(status=sa.literal_column(f"'{BuildStatus.RUNNING}'"), started_at=sa.bindparam("at"))
    .returning(_path.scalar_subquery())
)
_same = (
    sa.select(BUILDS.c.id)
    .where(
        BUILDS.c.args_key == sa.bindparam("of_args"),
        BUILDS.c.retry_of.is_not_distinct_from(sa.bindparam("of_retry")),
        BUILDS.c.cancel_requested.is_(False),
        BUILDS.c.priority <= sa.bindparam("of_priority"),  # who is in a hurry does not wait where others do
    )
    .order_by(BUILDS.c.id)
)
SAME = Prepared(_same.where(is_one_of((BuildStatus.PENDING,))))
SAME_OPEN = Prepared(_same.where(is_one_of((BuildStatus.PENDING, BuildStatus.RUNNING))))
PROJECT_AT = Prepared(sa.select(PROJECTS).where(PROJECTS.c.path == sa.bindparam("of_path")))
PROJECT = Prepared(sa.select(PROJECTS).where(PROJECTS.c.id == sa.bindparam("of_id")))
_began = sa.func.coalesce(STAGES.c.started_at, STAGES.c.ended_at)  # what was skipped has only an end
STAGES_OF = Prepared(
    sa.select(STAGES)
    .where(STAGES.c.build == sa.bindparam("of_build"))
    .order_by(STAGES.c.round, _began.is_(None), _began, STAGES.c.stage, STAGES.c.attempt)
)
_IS_STAGE = [STAGES.c[name] == sa.bindparam(f"of_{name}") for name in ("build", "stage", "round", "attempt")]
STAGE_STATUS = Prepared(sa.select(STAGES.c.status).where(*_IS_STAGE))
_new = sa.select(*(sa.bindparam(column.name, type_=column.type) for column in STAGES.c))
_no_row = ~sa.exists().where(*_IS_STAGE)
INSERT_STAGE = Prepared(sa.insert(STAGES).from_select(list(STAGES.c), _new.where(_no_row)))  # unless it is there
UPDATE_STAGE = Prepared(sa.update(STAGES).where(*_IS_STAGE), STAGES.c)
UPDATE_PROGRESS = Prepared(sa.update(STAGES).where(*_IS_STAGE), [STAGES.c.progress])


@cache
def inserting(columns: tuple[str, ...]) -> Prepared:
    """A new build, of which these columns are given; gives its number."""
    return Prepared(sa.insert(BUILDS).returning(BUILDS.c.id), [BUILDS.c[name] for name in columns])


@cache
def changing(only_from: tuple[BuildStatus, ...], columns: tuple[str, ...]) -> Prepared:
    """Some columns of the build `of_id`, where it is in one of these states."""
    statement = sa.update(BUILDS).where(_is_build, is_one_of(only_from))
    return Prepared(statement, [BUILDS.c[name] for name in columns])
