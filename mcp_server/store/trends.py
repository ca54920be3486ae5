"""Figures of a project's newest builds; statements to run inside `Store.read`."""

from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy as sa

from mcp_server.build_trends import (
    Count,
    Details,
    TestHistory,
    TrendPoint,
    Trends,
    Weight,
    covered,
    figures,
    part,
    slowest_files,
)
from mcp_server.model import Build, BuildStatus, Project
from mcp_server.store import builds
from mcp_server.store.tables import BUILDS, STAGES

OVER = (BuildStatus.SUCCESS, BuildStatus.FAILED, BuildStatus.CANCELLED)
FIGURES = (
    *(("sizes", name) for name in ("image", "memory", "sections", "app")),
    *(("compile", name) for name in ("edges", "wall_s", "total_s", "objects", "objects_s", "files")),
    *(("coverage", name) for name in ("lines", "branches", "functions")),
    *(("tests", name) for name in ("passed", "failed", "skipped")),
)
"""What is taken of a verdict's details: components, covered files and each test are many, and are not summed here."""

LOOKED_BACK = 10  # builds, for one that tells of coverage
MOST_CASES = 5000  # results of tests that are looked at for those that fail and are slow, of the newest builds

BUILT = sa.and_(BUILDS.c.status.in_(OVER), BUILDS.c.priority >= 0)  # an import or a sync builds nothing
_POINT = ("id", "name", "status", "reason", "target", "branch", "commit_sha", "created_at", "duration")


def build_trends(c: sa.Connection, limit: int, project_id: str | None = None) -> Trends:
    """The last `limit` builds of a project that are over, or of all."""
    ours = sa.true() if project_id is None else BUILDS.c.project_id == project_id
    query = sa.select(*(BUILDS.c[name] for name in _POINT)).where(ours, BUILT)
    rows = c.execute(query.order_by(BUILDS.c.id.desc()).limit(limit)).mappings().all()
    stages = figures_of(c, [int(row["id"]) for row in rows])
    points = tuple(TrendPoint(**row, **figures(stages.get(int(row["id"]), {}))) for row in reversed(rows))
    newest_first = sorted(stages.items(), reverse=True)
    history = _tests(c, [build for build, found in newest_first if any("tests" in one for one in found.values())])
    compiled = ([part(details, "compile") for details in found.values()] for _, found in newest_first)
    return Trends(project_id, points, slowest_files(compiled), history.failing, history.slow)


def figures_of(c: sa.Connection, numbers: list[int]) -> Mapping[int, Mapping[str, Details]]:
    """What the last attempt at each stage of these builds tells in figures, by build and stage."""
    parts = [STAGES.c.verdict[("details", *path)].as_json().label("_".join(path)) for path in FIGURES]
    query = sa.select(STAGES.c.build, STAGES.c.stage, *parts)
    query = query.where(STAGES.c.build.in_(numbers), STAGES.c.verdict.is_not(None))
    found: dict[int, dict[str, Details]] = {}
    for row in c.execute(query.order_by(STAGES.c.build, STAGES.c.stage, STAGES.c.round, STAGES.c.attempt)):
        details: dict[str, Any] = {}
        for (outer, inner), value in zip(FIGURES, row[2:], strict=True):
            if value is not None:
                details.setdefault(outer, {})[inner] = value
        found.setdefault(row.build, {})[row.stage] = details
    return {build: {stage: one for stage, one in stages.items() if one} for build, stages in found.items()}


def _tests(c: sa.Connection, newest_first: list[int]) -> TestHistory:
    """The results of single tests in these builds, of as many as may be looked at."""
    history = TestHistory()
    cases = STAGES.c.verdict[("details", "tests", "cases")].as_json().label("cases")
    for build in newest_first:
        if history.cases >= MOST_CASES:
            break
        query = sa.select(STAGES.c.stage, cases).where(STAGES.c.build == build, STAGES.c.verdict.is_not(None))
        last = {row.stage: row.cases for row in c.execute(query.order_by(STAGES.c.round, STAGES.c.attempt))}
        for stage, found in last.items():
            history.add(build, stage, cast("list[Any]", found) if isinstance(found, list) else [])
    return history


def coverage_before(c: sa.Connection, build: Build) -> Count | None:
    """The lines that tests ran in the newest build before this one of the same project, name and target."""
    same = (BUILDS.c.project_id == build.project_id, BUILDS.c.name == build.name, BUILDS.c.target == build.target)
    earlier = sa.select(BUILDS.c.id).where(*same, BUILDS.c.id < build.id, BUILDS.c.status.in_(OVER))
    numbers = [int(number) for number in c.scalars(earlier.order_by(BUILDS.c.id.desc()).limit(LOOKED_BACK))]
    stages = figures_of(c, numbers)
    found = (covered([part(one, "coverage") for one in stages.get(number, {}).values()]) for number in numbers)
    return next((one.lines for one in found if one is not None), None)


def newest_sizes(c: sa.Connection, project_id: str) -> tuple[int, Weight] | None:
    """The number and the sizes of the newest build of a project that has any, of the last few that are over."""
    ours = (BUILDS.c.project_id == project_id, BUILDS.c.status.in_(OVER))
    query = sa.select(BUILDS.c.id).where(*ours).order_by(BUILDS.c.id.desc()).limit(LOOKED_BACK)
    numbers = [int(number) for number in c.scalars(query)]
    stages = figures_of(c, numbers)
    found = ((number, figures(stages.get(number, {}))["sizes"]) for number in numbers)
    return next(((number, sizes) for number, sizes in found if sizes is not None), None)


def newest_points(c: sa.Connection, most: int) -> list[tuple[Project, TrendPoint]]:
    """The last build that is over of each project, of the `most` projects that were built last, by name."""
    last = sa.select(sa.func.max(BUILDS.c.id)).where(BUILT).group_by(BUILDS.c.project_id)
    numbers = [int(number) for number in c.scalars(last.order_by(sa.func.max(BUILDS.c.id).desc()).limit(most))]
    query = sa.select(BUILDS.c.project_id, *(BUILDS.c[name] for name in _POINT)).where(BUILDS.c.id.in_(numbers))
    rows = c.execute(query).mappings().all()
    stages = figures_of(c, numbers)
    found: list[tuple[Project, TrendPoint]] = []
    for row in rows:
        values = dict(row)
        project = builds.get_project(c, values.pop("project_id"))
        found.append((project, TrendPoint(**values, **figures(stages.get(int(row["id"]), {})))))
    return sorted(found, key=lambda one: (one[0].name, one[0].id))


def only_project(c: sa.Connection) -> str | None:
    """The id of the project that all builds are of; None where there are several, or none."""
    found = c.scalars(sa.select(BUILDS.c.project_id).distinct().limit(2)).all()
    return str(found[0]) if len(found) == 1 else None
