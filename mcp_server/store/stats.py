"""What earlier builds tell: counts, durations, causes; statements to run inside `Store.read`."""

import re
import statistics
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mcp_server.build_statistics import Day, FailurePattern, HostCount, StageTime, Stats
from mcp_server.model import BuildStatus, StageStatus
from mcp_server.store.tables import BUILDS, STAGES

TREND_DAYS = 30
MOST_FAILED = 2000  # newest failed builds whose causes are read
MOST_TIMES = 5000  # newest durations that percentiles and medians are made of
MOST_PATTERNS = 10
SLOWEST = 5

_KEPT: weakref.WeakKeyDictionary[sa.Engine, OrderedDict[str | None, tuple[object, Stats]]] = weakref.WeakKeyDictionary()
_MOST_KEPT = 200  # of projects
_MAKING = threading.Lock()  # many who ask at once let one work it out

_NUMBER = re.compile(r"\b(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?)\b")
_FOLDER = re.compile(r"(?:/[^\s/'\"`‘’:,;()]+)+/")


def build_stats(c: sa.Connection, now: datetime, project_id: str | None = None) -> Stats:
    """The builds of a project, or all of them. `now` ends the days of the trend (UTC).

    It takes a tenth of a second on ten thousand builds, so it is kept until a build was made, began, ended or is gone,
    each of which changes the counts or the newest number, or the day is another.
    """
    built = BUILDS.c.priority >= 0  # an import or a sync builds nothing
    of_project = sa.true() if project_id is None else BUILDS.c.project_id == project_id
    ours = sa.and_(built, of_project)
    counted = c.execute(sa.select(BUILDS.c.status, sa.func.count()).where(ours).group_by(BUILDS.c.status))
    counts = {str(status): int(number) for status, number in counted}
    newest = c.scalar(sa.select(sa.func.max(BUILDS.c.id)).where(of_project))
    state = counts, newest, now.date()
    with _MAKING:
        kept = _KEPT.setdefault(c.engine, OrderedDict())
        known = kept.get(project_id)
        if known is None or known[0] != state:
            known = state, _build_stats(c, ours, counts, now, project_id)
            kept[project_id] = known
            while len(kept) > _MOST_KEPT:
                kept.popitem(last=False)
    return known[1]


def _build_stats(
    c: sa.Connection, ours: sa.ColumnElement[bool], counts: Mapping[str, int], now: datetime, project_id: str | None
) -> Stats:
    total, good = sum(counts.values()), counts.get(BuildStatus.SUCCESS, 0)
    times = _times(c, ours)
    return Stats(
        project_id=project_id,
        total_builds=total,
        successful=good,
        failed=counts.get(BuildStatus.FAILED, 0),
        pending=counts.get(BuildStatus.PENDING, 0),
        running=counts.get(BuildStatus.RUNNING, 0),
        cancelled=counts.get(BuildStatus.CANCELLED, 0),
        success_rate=round(100 * good / total, 1) if total else 0.0,
        average_duration=_average(c, ours),
        p50_duration=_percentile(times, 50),
        p90_duration=_percentile(times, 90),
        trend=_trend(c, ours, now),
        failures=_failures(c, ours),
        slowest=_slowest(c, ours),
        hosts=_hosts(c, ours),
    )


def stage_durations(c: sa.Connection, project_id: str, name: str, limit: int = 5) -> Mapping[str, float]:
    """Seconds that each stage usually takes: medians over the last `limit` successful builds of this name."""
    same = sa.and_(BUILDS.c.project_id == project_id, BUILDS.c.name == name, BUILDS.c.status == BuildStatus.SUCCESS)
    newest = sa.select(BUILDS.c.id).where(same).order_by(BUILDS.c.id.desc()).limit(limit)
    times: dict[str, list[float]] = {}
    columns = (STAGES.c.stage, STAGES.c.started_at, STAGES.c.ended_at)
    for stage, began, ended in c.execute(sa.select(*columns).where(_timed(), STAGES.c.build.in_(newest))):
        times.setdefault(stage, []).append(max((ended - began).total_seconds(), 0.0))
    return {stage: statistics.median(seconds) for stage, seconds in times.items()}


def _timed() -> sa.ColumnElement[bool]:
    ends = (STAGES.c.started_at.is_not(None), STAGES.c.ended_at.is_not(None))
    return sa.and_(STAGES.c.status == StageStatus.SUCCESS, *ends)


def _average(c: sa.Connection, ours: sa.ColumnElement[bool]) -> float | None:
    seconds = c.scalar(sa.select(sa.func.avg(BUILDS.c.duration)).where(ours, BUILDS.c.status == BuildStatus.SUCCESS))
    return None if seconds is None else round(float(seconds), 3)


def _times(c: sa.Connection, ours: sa.ColumnElement[bool]) -> list[float]:
    done = (BUILDS.c.status == BuildStatus.SUCCESS, BUILDS.c.duration.is_not(None))
    query = sa.select(BUILDS.c.duration).where(ours, *done).order_by(BUILDS.c.id.desc()).limit(MOST_TIMES)
    return sorted(float(seconds) for seconds in c.scalars(query))


def _percentile(times: Sequence[float], percent: int) -> float | None:
    """The time that `percent` of the builds did not exceed: one that was measured, none between two."""
    return times[max(-(-len(times) * percent // 100) - 1, 0)] if times else None


def _trend(c: sa.Connection, ours: sa.ColumnElement[bool], now: datetime) -> tuple[Day, ...]:
    last = now.date()
    first = last - timedelta(days=TREND_DAYS - 1)
    begin = datetime(first.year, first.month, first.day, tzinfo=now.tzinfo)
    day = sa.func.date(BUILDS.c.created_at)
    query = sa.select(day, BUILDS.c.status, sa.func.count()).where(ours, BUILDS.c.created_at >= begin)
    counts: dict[date, dict[str, int]] = {}
    for when, status, number in c.execute(query.group_by(day, BUILDS.c.status)):
        at = when if isinstance(when, date) else date.fromisoformat(str(when))
        counts.setdefault(at, {})[str(status)] = int(number)
    days = (first + timedelta(days=back) for back in range(TREND_DAYS))
    return tuple(_day(at, counts.get(at, {})) for at in days)


def _day(at: date, counts: Mapping[str, int]) -> Day:
    good, bad = counts.get(BuildStatus.SUCCESS, 0), counts.get(BuildStatus.FAILED, 0)
    return Day(at, total=sum(counts.values()), successful=good, failed=bad)


def _failures(c: sa.Connection, ours: sa.ColumnElement[bool]) -> tuple[FailurePattern, ...]:
    """Failed builds by the first cause of the first stage that stayed failed in the last round, most frequent first."""
    failed = sa.select(BUILDS.c.id, BUILDS.c.reason).where(ours, BUILDS.c.status == BuildStatus.FAILED)
    newest = c.execute(failed.order_by(BUILDS.c.id.desc()).limit(MOST_FAILED))
    reasons: dict[int, str | None] = {row.id: row.reason for row in newest}
    if not reasons:
        return ()
    causes: dict[int, tuple[str, str, str]] = {}
    for row in c.execute(_failed_stages(ours, min(reasons))):
        if row.build in reasons and row.build not in causes:
            causes[row.build] = _cause(row.first, row.summary, row.stage, row.reason, row.exit_code)
    found: dict[tuple[str, str], FailurePattern] = {}
    for build, reason in reasons.items():  # newest first
        kind, message, place = causes.get(build) or (reason or "unknown", reason or "no stage of it ran", "")
        key = kind, normalised(message)
        before = found.get(key)
        if before is None:
            found[key] = FailurePattern(kind, message[:300], 1, build, place)
        else:
            found[key] = FailurePattern(
                kind, before.message, before.count + 1, before.last_build, before.place or place
            )
    ordered = sorted(found.values(), key=lambda pattern: (-pattern.count, -pattern.last_build))
    return tuple(ordered[:MOST_PATTERNS])


def _failed_stages(ours: sa.ColumnElement[bool], oldest: int) -> sa.Select[*tuple[Any, ...]]:
    """Last attempts that failed; of each build those of its last round and the one that ended first come first."""
    later = STAGES.alias("later")
    again = sa.exists().where(
        later.c.build == STAGES.c.build,
        later.c.stage == STAGES.c.stage,
        later.c.round == STAGES.c.round,
        later.c.attempt == STAGES.c.attempt + 1,
    )
    columns = (
        STAGES.c.build,
        STAGES.c.stage,
        STAGES.c.reason,
        STAGES.c.exit_code,
        STAGES.c.verdict[("diagnosis", "errors", 0)].as_json().label("first"),
        STAGES.c.verdict["summary"].as_string().label("summary"),
    )
    is_last = (STAGES.c.status == StageStatus.FAILED, STAGES.c.build >= oldest, sa.not_(again))
    query = sa.select(*columns).join(BUILDS, BUILDS.c.id == STAGES.c.build)
    query = query.where(ours, BUILDS.c.status == BuildStatus.FAILED, *is_last)
    return query.order_by(STAGES.c.build, STAGES.c.round.desc(), STAGES.c.ended_at.is_(None), STAGES.c.ended_at)


def _cause(
    first: Mapping[str, Any] | None, summary: str | None, stage: str, reason: str | None, exit_code: int | None
) -> tuple[str, str, str]:
    """Kind, message and `file:line`."""
    if first and first.get("message"):
        place = ":".join(str(first[part]) for part in ("file", "line") if first.get(part) is not None)
        return str(first.get("kind") or "unknown"), str(first["message"]), place
    ended = f"exit code {exit_code}" if exit_code is not None else reason or "failed"
    return reason or "exit", f"{stage}: {(summary or '').partition(chr(10))[0] or ended}", ""


def normalised(message: str) -> str:
    """A message without what differs from one build to the next: numbers, folders, spaces. Names stay: they tell."""
    return " ".join(_NUMBER.sub("N", _FOLDER.sub("", message)).split())


def _slowest(c: sa.Connection, ours: sa.ColumnElement[bool]) -> tuple[StageTime, ...]:
    columns = (STAGES.c.stage, STAGES.c.started_at, STAGES.c.ended_at)
    query = sa.select(*columns).join(BUILDS, BUILDS.c.id == STAGES.c.build).where(ours, _timed())
    times: dict[str, list[float]] = {}
    for stage, began, ended in c.execute(query.order_by(STAGES.c.build.desc()).limit(MOST_TIMES)):
        times.setdefault(stage, []).append(max((ended - began).total_seconds(), 0.0))
    found = (StageTime(stage, round(statistics.median(s), 3), len(s)) for stage, s in times.items())
    return tuple(sorted(found, key=lambda time: (-time.median_s, time.stage))[:SLOWEST])


def _hosts(c: sa.Connection, ours: sa.ColumnElement[bool]) -> tuple[HostCount, ...]:
    bad = sa.func.sum(sa.case((STAGES.c.status == StageStatus.FAILED, 1), else_=0))
    query = sa.select(STAGES.c.host, sa.func.count(), bad).join(BUILDS, BUILDS.c.id == STAGES.c.build)
    rows = c.execute(query.where(ours, STAGES.c.job_id.is_not(None)).group_by(STAGES.c.host))
    found = (HostCount(str(host), int(jobs), int(failures)) for host, jobs, failures in rows)
    return tuple(sorted(found, key=lambda host: (-host.jobs, host.host)))
