"""What the next build, or whoever looks at one, takes from earlier ones; statements to run inside `Store.read`."""

import sqlalchemy as sa

from mcp_server.model import Build, BuildStatus
from mcp_server.store.builds import get_build
from mcp_server.store.tables import BUILDS, STAGES


def recent_durations(c: sa.Connection, args_key: str, limit: int = 5) -> list[float]:
    """Seconds that the last successful builds with the same arguments took, newest first."""
    query = sa.select(BUILDS.c.duration).where(BUILDS.c.args_key == args_key, BUILDS.c.status == BuildStatus.SUCCESS)
    return [seconds for seconds in c.scalars(query.order_by(BUILDS.c.id.desc()).limit(limit)) if seconds is not None]


def last_good(c: sa.Connection, build: Build) -> Build | None:
    """The newest successful build of the same project and target before this one; None where there is none."""
    same = sa.and_(BUILDS.c.project_id == build.project_id, BUILDS.c.target.is_not_distinct_from(build.target))
    query = sa.select(BUILDS.c.id).where(same, BUILDS.c.id < build.id, BUILDS.c.status == BuildStatus.SUCCESS)
    number = c.scalar(query.order_by(BUILDS.c.id.desc()).limit(1))
    return None if number is None else get_build(c, number)


def last_baud(c: sa.Connection, host: str, key: str) -> int | None:
    """The rate at which the port was last opened by who knew it: not as nobody had said one."""
    query = sa.select(STAGES.c.resolved).where(
        STAGES.c.kind.in_(("idf.boot", "idf.monitor")),
        STAGES.c.host == host,
        STAGES.c.resolved["key"].as_string() == key,
        STAGES.c.resolved["baud_said"].as_boolean(),
    )
    resolved = c.scalars(query.order_by(STAGES.c.build.desc(), STAGES.c.started_at.desc()).limit(1)).first()
    return None if resolved is None else int(resolved["baud"])
