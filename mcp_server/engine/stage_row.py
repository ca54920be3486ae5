"""What the row of one attempt says, written whenever that changes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mcp_server.engine.services import Services
from mcp_server.engine.stages.base import Prepared
from mcp_server.errors import StoreError
from mcp_server.hosts.base import Exit, ExitReason, JobSpec
from mcp_server.model import Build, Lease, Progress, Stage, StageStatus, Verdict
from mcp_server.store import artifacts, builds, leases
from mcp_server.store.events import append

log = logging.getLogger(__name__)

SHOWN_CHARS = 300

Statements = Callable[[builds.sa.Connection], None]


def _nothing(c: builds.sa.Connection) -> None:
    """Nothing goes with it."""


class StageRow:
    """One attempt's row: `stage` as it was last written. Where the store fails, StoreError."""

    def __init__(self, services: Services, build: Build, stage: Stage, role: str | None = None) -> None:
        self._services, self._build, self.stage, self._role = services, build, stage, role
        self._before: StageStatus | None = None  # that of the row as it was last written here

    def change(self, **values: object) -> None:
        """Change fields without writing: the next write holds them."""
        self.stage = self.stage.model_copy(update=values)

    def put(self, host: str) -> None:
        """It is to run there."""
        if host != self.stage.host:
            self.change(host=host)

    async def tell(self, sentence: str) -> None:
        """It waits, and for what."""
        self.change(status=StageStatus.WAITING, progress=Progress(message=sentence))
        await self._write(self._services.clock.now())

    async def progress(self, progress: Progress) -> None:
        """How far its job is."""
        self.change(progress=progress)
        stage, now = self.stage, self._services.clock.now()
        await self._services.store.write(lambda c: builds.put_progress(c, stage, now))

    async def reach(self, since: datetime | None, sentence: str) -> None:
        """Its host is away `since`, or answers again (None)."""
        self.change(unreachable_since=since)
        stage, now = self.stage, self._services.clock.now()
        data = {"host": stage.host, "stage": stage.stage, "reachable": since is None, "message": sentence}
        await self._write(now, lambda c: append(c, "host.status", stage.build, now, data))

    async def start(self, job: JobSpec, prepared: Prepared) -> None:
        """It runs as `job`. Written before the job is started: who dies between the two finds it absent."""
        now = self._services.clock.now()
        self.change(
            status=StageStatus.RUNNING,
            job_id=job.id,
            spec_sha256=job.sha256(),
            resolved={**prepared.resolved, "cwd": prepared.cwd},
            progress=None,
            started_at=self.stage.started_at or now,
        )
        await self._write_begun(now)

    async def begin(self) -> None:
        """It runs, without a job."""
        now = self._services.clock.now()
        self.change(status=StageStatus.RUNNING, progress=None, started_at=self.stage.started_at or now)
        await self._write_begun(now)

    async def _write_begun(self, now: datetime) -> None:
        await self._write(now, lambda c: self._tell_role(c, now), lambda c: self._begin_build(c, now))
        self._services.begun.add(self._build.id)

    @property
    def confirmed(self) -> bool:
        """Whether its job is known to have been there."""
        return bool((self.stage.resolved or {}).get("started"))

    async def confirm(self) -> None:
        """Its job was there: should the record of it vanish, it is lost, and never started again. Raises nothing."""
        self.change(resolved={**(self.stage.resolved or {}), "started": True})
        try:
            await self._write(self._services.clock.now())
        except StoreError as error:
            log.warning("build %d stage %s: %s", self._build.id, self.stage.stage, error)

    async def give_back(self, held: Sequence[Lease]) -> None:
        """Let others have the place: nothing was started there."""
        now = self._services.clock.now()

        def statements(c: builds.sa.Connection) -> None:
            for lease in held:
                leases.release(c, lease, now)

        await self._services.store.write(statements)

    async def end(self, held: Sequence[Lease], verdict: Verdict, reason: str, end: Exit | None) -> None:
        """The verdict, what it left and found, and its place given back, in one transaction."""
        statuses = {"pass": StageStatus.SUCCESS, "cancelled": StageStatus.CANCELLED}
        now = self._services.clock.now()
        ended_by_us = reason == "exit" and end is not None and end.reason is not ExitReason.EXIT  # its verdict stood
        # The job's own end: a worker that took over may have come long after it.
        ended_at = datetime.fromtimestamp(end.ended_at, UTC) if end and end.ended_at else now
        self.change(
            status=statuses.get(verdict.result, StageStatus.FAILED),
            reason=reason,
            exit_code=end.code if end and not ended_by_us else None,
            verdict=verdict,
            started_at=min(self.stage.started_at or ended_at, ended_at),
            ended_at=ended_at,
            unreachable_since=None,
        )
        stage = self.stage

        def what_it_left(c: builds.sa.Connection) -> None:
            if verdict.artifacts:
                artifacts.put_artifacts(c, self._build.id, stage.stage, verdict.artifacts, now)
            builds.put_diagnostics(c, stage, now)
            self._tell_role(c, now)
            for lease in held:
                leases.release(c, lease, now)

        await self._write(now, what_it_left, lambda c: self._begin_build(c, now))

    async def add(self, details: Mapping[str, Any]) -> None:
        """More details of a verdict that was told before."""
        assert self.stage.verdict is not None
        self.change(
            verdict=self.stage.verdict.model_copy(update={"details": {**self.stage.verdict.details, **details}})
        )
        await self._write(self._services.clock.now())

    def _tell_role(self, c: builds.sa.Connection, now: datetime, sentence: str = "") -> None:
        """What the stage's role in a workflow does."""
        if self._role is None:
            return
        stage, ended = self.stage, sentence or _first_cause(self.stage.verdict)
        statuses = {StageStatus.RUNNING: "working", StageStatus.SUCCESS: "completed", StageStatus.SKIPPED: "idle"}
        data = {
            "job_id": self._build.id,
            "agent": self._role,
            "status": statuses.get(stage.status, "error"),
            "task": f"{stage.stage}: {ended}" if ended else stage.stage,
            "round": stage.round,
        }
        append(c, "agent.status", self._build.id, now, data)

    async def skip(self, reason: str, sentence: str) -> None:
        """It is not run at all."""
        now = self._services.clock.now()
        self.change(status=StageStatus.SKIPPED, reason=reason, ended_at=now)
        await self._write(now, lambda c: self._tell_role(c, now, sentence))

    async def _write(self, now: datetime, then: Statements = _nothing, first: Statements = _nothing) -> None:
        """Write the row as it is now, and what goes with it, in one transaction."""
        stage, before = self.stage, self._before
        self._before = None  # not known, should this fail or not be waited for

        def statements(c: builds.sa.Connection) -> None:
            first(c)
            builds.put_stage(c, stage, now, before)
            then(c)

        await self._services.store.write(statements)
        self._before = stage.status

    def _begin_build(self, c: builds.sa.Connection, now: datetime) -> None:
        """The build runs as soon as a stage of it does."""
        if self._build.id not in self._services.begun:
            builds.set_running(c, self._build.id, now)


def _first_cause(verdict: Verdict | None) -> str:
    """What a verdict says first: of a compile error, which has no summary, its place and message."""
    if verdict is None or verdict.result == "pass" or not verdict.diagnosis or not verdict.diagnosis.errors:
        return verdict.summary[:SHOWN_CHARS] if verdict else ""
    error = verdict.diagnosis.errors[0]
    place = f"{error.file}:{error.line} " if error.file and error.line else f"{error.file} " if error.file else ""
    return f"{place}{error.message}"[:SHOWN_CHARS]
