"""Builds that come round by the clock: ordered once for each time, by whichever service is there.

May import: model, config, config_schedules, errors, idf, store, workflows. Never: engine, a front.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mcp_server.config_schedules import Schedule, place_of, times, zone
from mcp_server.errors import ConfigError, OrchestratorError, StoreError
from mcp_server.model import Build, BuildStatus, Project, task_of_key
from mcp_server.store import builds, schedules
from mcp_server.store.schedules import Done
from mcp_server.store.superseded import SUPERSEDED
from mcp_server.workflows import WorkflowAsk

if TYPE_CHECKING:
    from mcp_server.idf.doctor import Check
    from mcp_server.orchestrator import Orchestrator

log = logging.getLogger(__name__)

EVERY_S = 60.0  # the clock of schedules has minutes
TRIGGER = "schedule"
SET_BACK = timedelta(hours=25)  # a clock that was so far ahead was wrong; less is waited for: no time comes twice
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))
NO_TIMES = "nothing here knows their times: pip install 'build-orchestrator[server]'"
MOST_TRIES = 200  # times that a zone's change of clocks may put before the one that they come after


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule, when it comes next, and what the last time came to. `problem`: why it cannot be built, or was not."""

    name: str
    schedule: Schedule
    next: datetime | None
    last: Build | None
    problem: str | None


class Schedules:
    """Over one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Order, behind the caller, what is due now and from now on."""
        self._running = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Order no more; what was being ordered is, by the next service."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        clock = self._orchestrator.clock
        while True:
            try:
                await self.look()
            except ModuleNotFoundError:
                log.warning("schedules: %s", NO_TIMES)
            except (OrchestratorError, OSError) as error:
                log.warning("schedules: %s", error)
            except Exception:  # a fault of ours costs this minute, not every later one
                log.exception("schedules")
            await clock.sleep(EVERY_S - clock.now().timestamp() % EVERY_S)

    async def look(self) -> None:
        """Order what is due. StoreError: it is tried again."""
        try:
            await self._orchestrator.refresh()
        except ConfigError as error:
            log.warning("config.yaml is not taken over: %s", error)
        for name, schedule in self._orchestrator.config.schedules.items():
            await self._look_at(name, schedule)

    async def _look_at(self, name: str, schedule: Schedule) -> None:
        orchestrator = self._orchestrator
        store, now = await orchestrator.store(), orchestrator.clock.now()
        rule = f"{schedule.cron} {schedule.timezone}"
        known = await store.read(lambda c: schedules.done(c, name))
        if known is None or known.rule != rule or known.done_until > now + SET_BACK:
            begin = Done(rule, now, known.build if known else None, None)  # nothing is made up for before it was said
            await store.write(lambda c: schedules.put(c, name, begin))
            return
        due = latest(schedule, known.done_until, now)
        if due is None:
            return
        number, said = known.build, None
        try:
            number = await self._order(name, schedule, due, known.build)
        except StoreError:
            raise
        except OrchestratorError as error:
            log.warning("schedule %s: %s", name, error)
            said = str(error)
        after = Done(rule, due, number, said)
        await store.write(lambda c: schedules.put(c, name, after, forward=True))

    async def _order(self, name: str, schedule: Schedule, due: datetime, last: int | None) -> int:
        """The number of the build of one time: the same one, whoever asks for it and how often."""
        orchestrator = self._orchestrator
        store, key = await orchestrator.store(), f"schedule {name} {due.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
        known = await store.read(lambda c: builds.find_build(c, task_of_key(key)))
        if known is not None:  # by another service, or this one before it died
            return known.id
        before = None if last is None else await store.read(lambda c: builds.find_build(c, last))
        if before is not None and before.status is BuildStatus.PENDING and not before.cancel_requested:
            return before.id  # it will build what is there when it begins: another one would build the same
        project = await orchestrator.find_project(schedule.project)
        branch = schedule.branch
        if branch is None and orchestrator.projects.is_clone(project):
            branch = project.branch or await asyncio.to_thread(_head, project)
        ask = WorkflowAsk(
            project.id,
            schedule.target,
            schedule.flash,
            schedule.qemu,
            schedule.agent,
            schedule.max_rounds,
            expect=schedule.expect,
        )
        started = await orchestrator.projects.build(
            ask, branch=branch, triggered_by=TRIGGER, key=key, priority=schedule.priority
        )
        number = started.build.id
        if schedule.supersede and before is not None and before.status.is_open and before.id != number:
            why = f"superseded by build {number}: the next time of schedule {name} came"
            now = orchestrator.clock.now()
            await store.write(lambda c: builds.request_cancel(c, before.id, now, reason=SUPERSEDED, build_output=why))
            await orchestrator.poke()
        return number

    async def list(self) -> Sequence[ScheduleView]:
        """Every schedule of config.yaml, by name. ConfigError: it has mistakes."""
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        store, now = await orchestrator.store(), orchestrator.clock.now()
        found: list[ScheduleView] = []
        for name, schedule in sorted(orchestrator.config.schedules.items()):
            known = await store.read(lambda c, name=name: schedules.done(c, name))
            number = known.build if known else None
            last = None if number is None else await store.read(lambda c, n=number: builds.find_build(c, n))
            problem, coming = known.said if known else None, None
            try:
                coming = following(schedule, max(now, known.done_until) if known else now)
                await orchestrator.find_project(schedule.project)
            except ModuleNotFoundError:
                problem = NO_TIMES
            except OrchestratorError as error:
                problem = str(error)
            found.append(ScheduleView(name, schedule, coming, last, problem))
        return found

    async def checks(self) -> "Sequence[Check]":
        """One for each schedule: when it comes next and what the last time came to, or why it does not."""
        from mcp_server.idf.doctor import Check  # noqa: PLC0415 - asked for seldom, and slow to load

        found: list[Check] = []
        for one in await self.list():
            last = f", the last time was build {one.last.id}: {one.last.status}" if one.last else ""
            coming = f"{one.schedule.project} next at {one.next:%Y-%m-%d %H:%M} UTC" if one.next else "never comes"
            said = Check(name=f"schedule {one.name}", status="ok", found=f"{coming}{last}")
            if one.problem is not None:
                said = Check(name=said.name, status="warn", found=one.problem)
            found.append(said)
        return found

    async def unknown(self) -> Sequence[str]:
        """A sentence for each schedule whose project is not known, with its place in config.yaml."""
        orchestrator = self._orchestrator
        said: list[str] = []
        for name, schedule in orchestrator.config.schedules.items():
            try:
                await orchestrator.find_project(schedule.project)
            except OrchestratorError as error:
                place = await asyncio.to_thread(place_of, orchestrator.config.file, name)
                said.append(f"{place} schedules.{name}.project: {error}")
        return said


def following(schedule: Schedule, after: datetime) -> datetime | None:
    """The first time after one, in UTC; None: none comes for fifty years."""
    found = cast("Iterator[datetime]", times(schedule.cron, after.astimezone(zone(schedule.timezone))))
    # What is written for an hour that comes twice is of its first time, also seen from its second.
    return next((utc for one in islice(found, MOST_TRIES) if (utc := one.astimezone(UTC)) > after), None)


def latest(schedule: Schedule, since: datetime, now: datetime) -> datetime | None:
    """The last time after `since` up to `now`; None: there was none. However many there were, this one counts."""
    for begin in (*(now - window for window in WINDOWS if now - window > since), since):
        last: datetime | None = None
        coming = following(schedule, begin)
        while coming is not None and coming <= now:
            last, coming = coming, following(schedule, coming)
        if last is not None:
            return last
    return None


def _head(project: Project) -> str | None:
    """The branch that a clone is on. Reads."""
    try:
        said = (Path(project.path) / ".git" / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return said.removeprefix("ref: refs/heads/") if said.startswith("ref: refs/heads/") else None
