"""One attempt at a stage: a slot, a job, its log, its verdict. May be begun again from the top in any process."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from mcp_server.engine.services import Services
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, StageKind
from mcp_server.engine.stages.kinds import KINDS
from mcp_server.errors import HostUnreachable, JobConflict, OrchestratorError, StoreError
from mcp_server.hosts.base import Exit, ExitReason, Host, JobSpec, JobState
from mcp_server.model import Build, Lease, Progress, Stage, StageSpec, StageStatus, Verdict
from mcp_server.store import artifacts, builds, leases

log = logging.getLogger(__name__)

PROGRESS_S = 0.25  # at most four a second go out
QUIET_S = 0.15  # a job that ends sooner is read at its end: no follower is started for it
GRACE_S = 1  # between TERM and KILL; a cancel has two seconds to the last child
PIECE_BYTES = 262_144


class StageRun:
    """Brings one attempt to its end and returns its row."""

    def __init__(
        self, services: Services, build: Build, spec: StageSpec, stage: Stage, previous: Sequence[Stage]
    ) -> None:
        self.services, self.build, self.spec, self.stage = services, build, spec, stage
        self.previous = previous
        self.kind: StageKind = KINDS[spec.kind]

    async def run(self) -> Stage:
        """The attempt's final row. StoreError, HostUnreachable: nothing is known, so run it again from the top."""
        if self.stage.job_id is None and (late := await self._ready()):
            return late
        lease = await self.services.leases.acquire(
            f"host:{self.spec.host}",
            slots=self.services.slots(self.spec.host),
            build=self.build.id,
            stage=self.spec.name,
            reason=f"stage {self.spec.name}",
            priority=self.build.priority,
        )
        try:
            host = self.services.host(self.spec.host)
            if not await self._reattached(host):
                await self._start(host)
            observer = await asyncio.to_thread(self.kind.observe, self._context())
            end = await self._watch(host, observer)
            if end.reason is ExitReason.LOST:
                await host.kill(self.job_id, GRACE_S)  # its supervisor is gone, its children may not be
            verdict = await self.kind.finish(self._context(), end, observer)
        except (StoreError, HostUnreachable):
            raise
        except OrchestratorError as error:
            await self._end(lease, Verdict(result="fail", summary=str(error)), error.reason, None)
        except Exception as error:
            log.exception("build %d stage %s", self.build.id, self.spec.name)
            summary = f"internal error ({type(error).__name__}): see {self.services.config.logs_dir}/worker.log"
            await self._end(lease, Verdict(result="fail", summary=summary), "internal", None)
        else:
            # A job that was ended because its verdict stood did what was asked of it.
            decided = observer.decided or end.reason is ExitReason.EXIT
            await self._end(lease, verdict, "exit" if decided else end.reason, end)
        return self.stage

    async def _ready(self) -> Stage | None:
        """None once nothing stands in the way; the failed row where that takes longer than the stage may."""
        ready = self.kind.ready(self._context())
        try:
            await (self.services.clock.within(self.spec.timeout_s, ready) if self.spec.timeout_s else ready)
        except TimeoutError:
            waited_for = self.stage.progress.message if self.stage.progress else "waiting"
            await self._end(None, Verdict(result="timeout", summary=f"timed out {waited_for}"), "timeout", None)
            return self.stage
        return None

    @property
    def job_id(self) -> str:
        assert self.stage.job_id is not None
        return self.stage.job_id

    def _context(self) -> StageContext:
        services = self.services
        return StageContext(
            self.build, self.spec, self.stage, services.config, services.environment, self._tell, self.previous
        )

    async def _tell(self, sentence: str) -> None:
        self._change(status=StageStatus.WAITING, progress=Progress(message=sentence))
        stage, now = self.stage, self.services.clock.now()
        await self.services.store.write(lambda c: builds.put_stage(c, stage, now))

    async def _reattached(self, host: Host) -> bool:
        """Whether the job that the row names exists, made for the specification that the row names."""
        if self.stage.job_id is None:
            return False
        status = await host.status(self.stage.job_id)
        if status.state is JobState.ABSENT:
            return False
        # No hash: it was kept from ever starting, and its exit record says so.
        if status.spec_sha256 not in (None, self.stage.spec_sha256):
            raise JobConflict(
                host.name, f"job {self.stage.job_id} belongs to another build: its record was not touched"
            )
        return True

    async def _start(self, host: Host) -> None:
        prepared = await self.kind.prepare(self._context())
        job = await self._job(prepared)
        now = self.services.clock.now()
        self._change(
            status=StageStatus.RUNNING,
            job_id=job.id,
            spec_sha256=job.sha256(),
            resolved=dict(prepared.resolved),
            progress=None,
            started_at=self.stage.started_at or now,
        )

        def statements(c: builds.sa.Connection) -> None:
            builds.set_running(c, self.build.id, now)
            builds.put_stage(c, self.stage, now)

        # The row first: a worker that dies between the two finds the job absent and starts it.
        await self.services.store.write(statements)
        await host.start(job)

    async def _job(self, prepared: Prepared) -> JobSpec:
        store_id = await self.services.store.uuid()
        return JobSpec(
            id=f"{store_id}-{self.build.id}-{self.stage.stage}-{self.stage.round}-{self.stage.attempt}",
            argv=prepared.argv,
            cwd=prepared.cwd,
            env=prepared.env,
            timeout_s=self.spec.timeout_s,
            lock=prepared.lock,
        )

    async def _watch(self, host: Host, observer: Observer) -> Exit:
        """Feed the observer the whole log, from the first byte to the last, and return the exit record."""
        waiting = asyncio.ensure_future(host.wait(self.job_id))
        following: asyncio.Task[int] | None = None
        offset = 0
        try:
            if not self.kind.live:
                await asyncio.wait({waiting}, timeout=QUIET_S)
            if not waiting.done():
                following = asyncio.create_task(self._follow(host, observer))
                await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
                if following.done() and observer.decided:
                    await host.kill(self.job_id, GRACE_S)
            end = await waiting
            if following is not None:
                offset = await following
        finally:
            for task in (waiting, following):
                if task is not None and not task.done():
                    task.cancel()
            await asyncio.wait({task for task in (waiting, following) if task is not None})
        await self._feed_rest(host, observer, offset, end)
        return end

    async def _follow(self, host: Host, observer: Observer) -> int:
        """Feed the log while it grows; the offset reached. Progress is written at most four times a second."""
        offset, written, due = 0, 0.0, None
        try:
            async for piece in host.follow(self.job_id):
                offset += len(piece)
                observer.feed(piece)
                if observer.decided:
                    break
                if due is None or due.done():
                    pause = max(0.0, written + PROGRESS_S - self.services.clock.monotonic())
                    due = asyncio.create_task(self._progress(observer, pause))
                    written = self.services.clock.monotonic() + pause
        finally:
            if due is not None and not due.done():
                due.cancel()
                await asyncio.wait({due})
        return offset

    async def _progress(self, observer: Observer, pause_s: float) -> None:
        await self.services.clock.sleep(pause_s)
        if observer.progress is None or observer.progress == self.stage.progress:
            return
        self._change(progress=observer.progress)
        stage, now = self.stage, self.services.clock.now()
        await self.services.store.write(lambda c: builds.put_progress(c, stage, now))

    async def _feed_rest(self, host: Host, observer: Observer, offset: int, end: Exit) -> None:
        while not observer.decided and (end.log_size is None or offset < end.log_size):
            piece = await host.read_log(self.job_id, offset, PIECE_BYTES)
            if not piece:
                break
            offset += len(piece)
            observer.feed(piece)
            await asyncio.sleep(0)

    async def _end(self, lease: Lease | None, verdict: Verdict, reason: str, end: Exit | None) -> None:
        statuses = {"pass": StageStatus.SUCCESS, "cancelled": StageStatus.CANCELLED}
        now = self.services.clock.now()
        # The job's own end: a worker that took over may have come long after it.
        ended_at = datetime.fromtimestamp(end.ended_at, UTC) if end and end.ended_at else now
        self._change(
            status=statuses.get(verdict.result, StageStatus.FAILED),
            reason=reason,
            exit_code=end.code if end else None,
            verdict=verdict,
            started_at=min(self.stage.started_at or ended_at, ended_at),
            ended_at=ended_at,
        )
        stage = self.stage

        def statements(c: builds.sa.Connection) -> None:
            builds.set_running(c, self.build.id, now)
            builds.put_stage(c, stage, now)
            if verdict.artifacts:
                artifacts.put_artifacts(c, self.build.id, stage.stage, verdict.artifacts, now)
            builds.put_diagnostics(c, stage, now)
            if lease is not None:
                leases.release(c, lease, now)

        await self.services.store.write(statements)
        if lease is not None:
            await self.services.leases.offer(lease.resource)

    def _change(self, **values: object) -> None:
        self.stage = self.stage.model_copy(update=values)
