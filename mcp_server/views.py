"""Builds as fronts show them: a row, its stages, what it waits for, and how long it will take."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from mcp_server.build_trends import Count
from mcp_server.expected import Place
from mcp_server.model import Artifact, Build, BuildStatus, Lease, Project, Stage, StageSpec, StageStatus
from mcp_server.moved import left_for_copy
from mcp_server.pipelines import graph
from mcp_server.places import at
from mcp_server.store import artifacts, builds, earlier, leases, stats, trends, workers
from mcp_server.whereabouts import why_idle

Slots = Callable[[str], Mapping[str, int]]
"""The hosts that a name, alias or tag means, and how many stages may run on each."""

MOST_RECKONED = 1000  # stages; an estimate of more costs more than it tells


@dataclass(frozen=True, slots=True)
class Started:
    """A build that was asked for. `joined`: the same one was there already."""

    build: Build
    joined: bool


@dataclass(frozen=True, slots=True)
class BuildView:
    """A build as a front shows it: its row, its stages, its project, and what a pending one waits for.

    `typical_s` is the median duration of the same build's last successes, None where there are none; `usual_s` that of
    its stages by name. `coverage_before`: lines that the tests of the same build ran when it was last over, where they
    tell in this one, too. `eta_s` is what is left of a pipeline, from the durations of its stages and the free slots.
    `queue` is the place of one that waits for its turn; `idle` says why nobody works on it, where that is a worker's
    absence.
    """

    build: Build
    project: Project
    stages: Sequence[Stage]
    artifacts: Sequence[Artifact] = ()
    blocked_by: Sequence[Lease] = ()
    typical_s: float | None = None
    elapsed_s: float = 0
    coverage_before: Count | None = None
    usual_s: Mapping[str, float] = field(default_factory=dict[str, float])
    eta_s: float | None = None
    queue: Place | None = None
    idle: str = ""


def _one_slot(reference: str) -> Mapping[str, int]:
    return {reference: 1}


def build_view(c: sa.Connection, build_id: int, now: datetime, slots: Slots = _one_slot) -> BuildView:
    """The view of a build that exists, read in one transaction."""
    build, stages = builds.get_build(c, build_id), builds.stages_of(c, build_id)
    elapsed = build.duration
    if elapsed is None:
        elapsed = max((now - (build.started_at or build.created_at)).total_seconds(), 0.0)  # a clock may go back
    several = len(build.plan.stages) > 1
    usual: Mapping[str, float] = stats.stage_durations(c, build.project_id, build.name) if several else {}
    return BuildView(
        build=build,
        project=builds.get_project(c, build.project_id),
        stages=stages,
        artifacts=[artifact for _, artifact in artifacts.artifacts_of(c, build.id)],
        blocked_by=_blockers(c, build, stages, slots),
        typical_s=_median(earlier.recent_durations(c, build.args_key)),
        elapsed_s=elapsed,
        coverage_before=trends.coverage_before(c, build) if _tells_coverage(stages) else None,
        usual_s=usual,
        eta_s=_eta(build, stages, usual, now) if several and build.status.is_open else None,
        idle=_idle(c, build) if build.status.is_open else "",
    )


def _idle(c: sa.Connection, build: Build) -> str:
    if c.dialect.name == "sqlite":  # one worker, which whoever looks at a build wakes or starts
        return ""
    return why_idle(
        workers.list_workers(c),
        place=build.place,
        machine=build.machine,
        worker=build.worker,
        running=build.status is BuildStatus.RUNNING,
        cancelled=build.cancel_requested,
    )


def _tells_coverage(stages: Sequence[Stage]) -> bool:
    return any(stage.verdict is not None and "coverage" in stage.verdict.details for stage in stages)


def _eta(build: Build, stages: Sequence[Stage], usual: Mapping[str, float], now: datetime) -> float | None:
    """Seconds to the end, where every stage that is not over has run before or tells how far it is; else None."""
    last = {stage.stage: stage for stage in stages if stage.round == build.round}
    open_specs = [
        spec
        for spec in build.plan.stages
        if not spec.skip and ((row := last.get(spec.name)) is None or row.status.is_open)
    ]
    if len(open_specs) > MOST_RECKONED:
        return None
    remaining = {spec.name: _left(last.get(spec.name), usual.get(spec.name), now) for spec in open_specs}
    known = {name: left for name, left in remaining.items() if left is not None}
    if len(known) < len(remaining):
        return None
    return graph.eta_s(
        {spec.name: spec.depends_on for spec in open_specs},
        known,
        parallel_limit=build.plan.parallel_limit,
        running=[name for name in known if (row := last.get(name)) and row.status is StageStatus.RUNNING],
    )


def _left(row: Stage | None, usual: float | None, now: datetime) -> float | None:
    if row is None or (row.status is StageStatus.WAITING and row.started_at is None):
        return usual
    if row.status is not StageStatus.RUNNING or row.started_at is None:
        return 0.0
    spent = max((now - row.started_at).total_seconds(), 0.0)
    if usual is not None:
        return max(0.0, usual - spent)
    if row.progress and row.progress.total and row.progress.done * 20 >= row.progress.total:
        return spent * (row.progress.total - row.progress.done) / row.progress.done
    return None


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _blockers(c: sa.Connection, build: Build, stages: Sequence[Stage], slots: Slots) -> Sequence[Lease]:
    """Leases of other builds that a build with nothing running waits for, with those of its stages that are next."""
    if not build.status.is_open or any(stage.status.is_open for stage in stages):
        return ()
    held, coming = leases.holders(c), _coming(build, stages)
    others = [lease for lease in held if lease.build != build.id]
    mended = build.plan.fix_first or any(stage.kind.startswith("agent.") for stage in stages)
    copied = left_for_copy(build.plan) if mended else set[tuple[str, str]]()  # those it does not wait for
    places = {(stage.host, str(stage.directory)) for stage in coming} - copied
    directories = {f"dir:{at(host, build.machine)}:{directory}" for host, directory in places}
    taken = Counter(lease.resource for lease in held)
    full = set[str]()
    for pool in (_pool(stage, build, slots) for stage in coming):
        if all(taken[host] >= most for host, most in pool.items()):
            full |= pool.keys()
    groups = {f"group:{stage.group}" for stage in coming if stage.group}
    return [x for x in others if x.resource in directories] or [x for x in others if x.resource in full | groups]


def _coming(build: Build, stages: Sequence[Stage]) -> Sequence[StageSpec]:
    """The stages that could begin now, as far as their order goes."""
    rows = [stage for stage in stages if stage.round == build.round]
    over = {stage.stage for stage in rows} | {spec.name for spec in build.plan.stages if spec.skip}
    passed = {stage.stage for stage in rows if stage.status in (StageStatus.SUCCESS, StageStatus.SKIPPED)}
    return [
        spec
        for spec in build.plan.stages
        if not spec.skip and spec.name not in passed and over.issuperset(spec.depends_on)
    ]


def _pool(stage: StageSpec, build: Build, slots: Slots) -> Mapping[str, int]:
    """The resources of the hosts that would do for a stage, and the slots of each."""
    found = {name: most for reference in (stage.host, *stage.hosts) for name, most in slots(reference).items()}
    return {f"host:{at(name, build.machine)}": most for name, most in found.items()}
