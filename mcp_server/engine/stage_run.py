"""One attempt at a stage: a place, its files, a job, its log, its verdict. May be begun again in any process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from mcp_server.config import Server
from mcp_server.engine import transfer
from mcp_server.engine.arrival import Belongings, reach
from mcp_server.engine.coverage_of import coverage_of
from mcp_server.engine.delayed import Delayed
from mcp_server.engine.history import StoredHistory
from mcp_server.engine.leases import Choice, Gate, Pool
from mcp_server.engine.services import HOST, Services
from mcp_server.engine.stage_row import StageRow
from mcp_server.engine.stages.base import Direct, LooksBack, Prepared, StageContext, StageKind
from mcp_server.engine.stages.kinds import ASKS, DIRECT, LOOKS_BACK, WITH_JOB, WITHOUT_SLOT
from mcp_server.engine.watch import GRACE_S, Watch
from mcp_server.errors import Conflict, HostUnreachable, JobConflict, NotFound, OrchestratorError, StoreError
from mcp_server.hosts.base import Exit, ExitReason, Host, JobSpec, JobState
from mcp_server.hosts.globs import matcher
from mcp_server.model import Artifact, Build, Lease, Stage, StageSpec, Verdict
from mcp_server.places import at, of_one
from mcp_server.store import artifacts

log = logging.getLogger(__name__)

T = TypeVar("T")

MANY = 1_000_000
SESSION = "session:"
CONFIRM_S = 0.3  # a job that ends sooner writes its end instead
AWAY_S = (1, 2, 4, 8, 15)  # between two looks at a host that does not answer; the last one from then on


class _Elsewhere(Exception):
    """The host cannot be reached, and nothing was started there: another may run the stage."""

    def __init__(self, why: HostUnreachable) -> None:
        self.why = why
        super().__init__(str(why))


class _TooLate(Exception):
    """What stood in the way of a stage stood there longer than the stage may take."""


class _Vanished(Exception):
    """The record of a job that did run is gone from its host: how it ended cannot be known any more."""


class StageRun:
    """Brings one attempt to its end and returns its row. `rank` is the time from here to the build's end.

    `heirs` says that other stages wait for this one.
    """

    def __init__(
        self,
        services: Services,
        build: Build,
        spec: StageSpec,
        stage: Stage,
        previous: Sequence[Stage],
        *,
        rank: float = 0,
        heirs: bool = False,
        gate: Gate | None = None,
        belongings: Belongings | None = None,
    ) -> None:
        self.services, self.build, self.spec = services, build, spec
        self.row = StageRow(services, build, stage, spec.role)
        self.previous, self.rank, self.heirs, self.gate = previous, rank, heirs, gate
        self._belongings = belongings or Belongings(services.leases, build)
        self._store_id = ""
        self._ours = False  # the job of this very attempt is known to be there
        self._history = StoredHistory(services.store, build)
        self._confirming: Delayed | None = None
        self._host: Host | None = None
        self._server: Server | None = None
        self._down: dict[str, HostUnreachable] = {}
        self._away = 0

    @property
    def stage(self) -> Stage:
        return self.row.stage

    @property
    def kind(self) -> StageKind:
        """That of a stage with a job."""
        return WITH_JOB[self.spec.kind]

    async def run(self, *, pause_s: float = 0) -> Stage:
        """The attempt's final row; begun `pause_s` after the last one's end. StoreError: run it again from the top."""
        begun = self.stage.job_id is not None
        self._store_id = await self.services.store.uuid()
        while True:
            held: tuple[Lease, ...] = ()
            try:
                if (direct := DIRECT.get(self.spec.kind)) is not None:
                    verdict, reason, end = await self._direct(direct, pause_s)
                else:
                    if not begun:
                        await self._before(pause_s)
                        begun = True
                    held = await self._place()
                    verdict, reason, end = await self._attempt()
            except StoreError:
                raise
            except _Elsewhere as elsewhere:
                self._down[self.stage.host] = elsewhere.why
                await self.row.give_back(held)
                self.services.leases.release(held, self.gate if held else None)
                continue
            except _TooLate as late:
                verdict, reason, end = Verdict(result="timeout", summary=str(late)), "timeout", None
            except _Vanished as gone:
                verdict, reason, end = Verdict(result="unknown", summary=str(gone)), "lost", None
            except OrchestratorError as error:
                await self._abandon()
                verdict = Verdict(result="fail", summary=str(error), details=dict(error.details))
                reason, end = error.reason, None
            except Exception as error:
                log.exception("build %d stage %s", self.build.id, self.spec.name)
                await self._abandon()
                place = f"{self.services.config.logs_dir}/worker.log"
                verdict = Verdict(result="fail", summary=f"internal error ({type(error).__name__}): see {place}")
                reason, end = "internal", None
            await self.row.end(held, verdict, str(verdict.details.get("reason") or reason), end)
            if held:
                self.services.leases.release(held, self.gate, heirs=self.heirs)
            if verdict.result == "pass" and (kind := LOOKS_BACK.get(self.spec.kind)) is not None:
                self.services.later(self._look_back(kind, verdict))
            return self.stage

    async def _look_back(self, kind: LooksBack, verdict: Verdict) -> None:
        """Add to the row what the kind finds out after its end. Raises nothing: the verdict stands without it."""
        try:
            if details := await kind.after(self._context(), verdict):
                await self.row.add(details)
        except OrchestratorError as error:
            log.warning("build %d stage %s, after its end: %s", self.build.id, self.spec.name, error)
        except Exception:
            log.exception("build %d stage %s, after its end", self.build.id, self.spec.name)

    # -- before the job ----------------------------------------------------------------------------------------------

    async def _before(self, pause_s: float) -> None:
        """Return once nothing stands in the way; _TooLate where that takes longer than the stage may."""
        self.row.put(self.services.hosts.resolve(self.spec.host)[0])
        await self._pause(pause_s)
        await self._in_time(self.kind.ready(self._context()))

    async def _direct(self, kind: Direct, pause_s: float) -> tuple[Verdict, str, None]:
        """The work of a stage without a job."""
        self.row.put(self.services.hosts.resolve(self.spec.host)[0])
        await self._pause(pause_s)
        await self.row.begin()
        return await self._in_time(kind.run(self._context())), "exit", None

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            return await (self.services.clock.within(self.spec.timeout_s, work) if self.spec.timeout_s else work)
        except TimeoutError:
            what_for = self.stage.progress.message if self.stage.progress else "waiting"
            raise _TooLate(f"timed out {what_for}") from None

    async def _pause(self, pause_s: float) -> None:
        last = self.previous[-1] if self.previous else None
        if not pause_s or last is None or last.ended_at is None:
            return
        due = last.ended_at + timedelta(seconds=pause_s)
        if (left := min((due - self.services.clock.now()).total_seconds(), pause_s)) > 0:  # the clock may go back
            await self.row.tell(f"again at {due.astimezone():%H:%M:%S}, after attempt {last.attempt}: {last.reason}")
            await self.services.clock.sleep(left)

    async def _place(self) -> tuple[Lease, ...]:
        """A slot of a host, which is the row's from now on, and the turn of the stage's group. BadInput, _down's."""
        if self.stage.job_id is None:
            hosts = self.services.places(self.spec, self._down)
        else:
            there = f"{HOST}{at(self.stage.host, self.services.machine)}"
            hosts = Pool([Choice(there, MANY)])  # it runs there, however many may be started
        if not hosts:
            raise next(reversed(self._down.values()))
        if self.spec.kind in WITHOUT_SLOT or self.build.priority < 0:  # long builds keep no transfer waiting
            hosts = Pool(Choice(one.resource.replace(HOST, SESSION, 1), MANY, one.order) for one in hosts)
        group = [[Choice(f"group:{self.spec.group}")]] if self.spec.group else []
        held = await self.services.leases.acquire(
            [hosts, *group],
            build=self.build.id,
            stage=self.spec.name,
            reason=f"stage {self.spec.name}",
            priority=self.build.priority,
            rank=self.rank,
            gate=self.gate,
        )
        self.row.put(of_one(held[0].resource).removeprefix(HOST).removeprefix(SESSION))
        return held

    async def _attempt(self) -> tuple[Verdict, str, Exit | None]:
        host = await self._insist(lambda: self.services.host_of_job(self.stage.host))
        self._host, self._server = host, self.services.hosts.server(self.stage.host)
        await self._insist(lambda: self._running(host))
        observer = await asyncio.to_thread(self.kind.observe, self._context())
        watch = Watch(host, self.job_id, observer, self.services.clock, live=self.kind.live, tell=self.row.progress)
        try:
            end = await self._insist(watch.end)
        except NotFound:
            raise _Vanished(f"the record of job {self.job_id} is gone from host {host.name}") from None
        finally:
            if self._confirming is not None:
                await self._confirming.aclose()
        if end.reason is ExitReason.LOST:  # its supervisor is gone, its children may not be
            await self._insist(lambda: host.kill(self.job_id, GRACE_S))
        verdict = await self._insist(lambda: self.kind.finish(self._context(), end, observer))
        # A job that was ended because its verdict stood did what was asked of it.
        reason = "exit" if observer.decided or end.reason is ExitReason.EXIT else end.reason.value
        if self.spec.artifacts and end.reason is ExitReason.EXIT:
            try:
                verdict = await self._insist(lambda: self._take(host, verdict))
            except StoreError:
                raise
            except OrchestratorError as error:  # what the job said stays; one that passed has not done its part
                noted: dict[str, object] = {"details": _noted(verdict, [f"artifacts: {error}"])}
                if verdict.result == "pass":
                    noted |= {"result": "fail", "summary": f"artifacts: {error}"}
                    reason = error.reason
                verdict = verdict.model_copy(update=noted)
        return verdict, reason, end

    # -- the job -----------------------------------------------------------------------------------------------------

    @property
    def job_id(self) -> str:
        assert self.stage.job_id is not None
        return self.stage.job_id

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """`work`, again and again while the host does not answer: silence says nothing of a job that was started."""
        while True:
            try:
                result = await work()
            except HostUnreachable as error:
                if self.stage.job_id is None:
                    raise _Elsewhere(error) from error
                await self._note_away(error)
                await self.services.clock.sleep(AWAY_S[min(self._away, len(AWAY_S)) - 1])
            else:
                await self._note_back()
                return result

    async def _note_away(self, error: HostUnreachable) -> None:
        self._away += 1
        if self.stage.unreachable_since is None:
            log.warning("build %d stage %s: %s", self.build.id, self.spec.name, error)
            since = self.services.clock.now()
            await self.row.reach(since, str(error))
            if self.build.plan.on_failure.notify or self.build.plan.on_success.notify:
                self.services.notifier.host_unreachable(self.build, self.stage.host, since)

    async def _note_back(self) -> None:
        self._away = 0
        if self.stage.unreachable_since is not None:
            await self.row.reach(None, "reachable again")

    async def _running(self, host: Host) -> None:
        """Return when the job of this attempt exists: found again, or started."""
        if not await self._reattached(host):
            await self._start(host)
        asks = ASKS.get(self.spec.kind)
        if asks and (await host.status(self.job_id)).state in (JobState.STARTING, JobState.RUNNING):
            await asks.begun(self._context())
        if not self.row.confirmed and self._confirming is None:
            self._confirming = Delayed(self.services.clock, CONFIRM_S, self.row.confirm)

    async def _reattached(self, host: Host) -> bool:
        """Whether the job that the row names exists, made for the specification that the row names."""
        if self.stage.job_id is None:
            return False
        status = await host.status(self.stage.job_id)
        if status.state is JobState.ABSENT:
            if self.row.confirmed:
                raise _Vanished(f"job {self.stage.job_id} ran on host {host.name}, which knows nothing of it any more")
            return False
        # No hash: it was kept from ever starting, and its exit record says so.
        if status.spec_sha256 not in (None, self.stage.spec_sha256):
            raise JobConflict(
                host.name, f"job {self.stage.job_id} belongs to another build: its record was not touched"
            )
        self._ours = True
        return True

    async def _start(self, host: Host) -> None:
        await reach(host, self.services.clock, self.row.tell)
        prepared = await self.kind.prepare(self._context())
        if self.spec.sync or self.spec.needs_artifacts:
            await self._bring(host, prepared.cwd)
        job = self._job(prepared)
        await self.row.start(job, prepared)
        await host.start(job)
        self._ours = True

    async def _bring(self, host: Host, folder: str) -> None:
        if self.spec.sync is not None:
            await self._belongings.hold(f"tree:{host.name}:{folder}", "the synced tree", self.row.tell)
        await self._in_time(transfer.bring(self.services, self._context(), folder, self.row.tell))

    async def _abandon(self) -> None:
        """End a job whose end nobody will wait for any more."""
        if not self._ours or self._host is None:
            return
        try:
            await self._host.kill(self.job_id, GRACE_S)
        except OrchestratorError as error:
            log.warning("build %d: job %s may run on: %s", self.build.id, self.job_id, error)

    def _job(self, prepared: Prepared) -> JobSpec:
        return JobSpec(
            id=f"{self._store_id}-{self.build.id}-{self.stage.stage}-{self.stage.round}-{self.stage.attempt}",
            argv=prepared.argv,
            cwd=prepared.cwd,
            env=prepared.env,
            timeout_s=self.spec.timeout_s,
            lock=prepared.lock,
            login=prepared.login,
        )

    async def _take(self, host: Host, verdict: Verdict) -> Verdict:
        assert self.stage.resolved is not None
        left = await transfer.take(self.services, self.stage, self.spec, host, self.stage.resolved["cwd"])
        paths = [artifact.path for artifact in left]
        idle = [pattern for pattern in self.spec.artifacts if not any(map(matcher([pattern]), paths))]
        kept = self.services.archive.folder(self.build.id, self.stage.stage)
        covered, notes = await coverage_of(kept, left, self.stage.resolved["cwd"])
        details = {**_noted(verdict, [*(f"nothing matches {pattern}" for pattern in idle), *notes]), **covered}
        return verdict.model_copy(update={"artifacts": (*verdict.artifacts, *left), "details": details})

    async def _hold(self, resource: str, what: str) -> None:
        await self._belongings.hold(resource, what, self.row.tell)

    async def _built(self, build_dir: str) -> tuple[int, Sequence[Artifact]] | None:
        found = await self.services.store.read(lambda c: artifacts.built_in(c, self.build.id, build_dir))
        if found is not None or self.spec.depends_on:
            return found
        last = await self.services.store.read(lambda c: artifacts.newest_in(c, build_dir))
        if last is None:
            return None
        if not artifacts.recorded_products([last]) or last.verdict is None:
            raise Conflict(f"the last build in {build_dir} ({last.build}) left no firmware: build again")
        return last.build, last.verdict.artifacts

    def _context(self) -> StageContext:
        services = self.services
        return StageContext(
            build=self.build,
            spec=self.spec,
            stage=self.stage,
            config=services.config,
            environment=services.environment,
            tell=self.row.tell,
            previous=self.previous,
            host=self._host or services.host(self.stage.host),
            server=self._server or services.hosts.server(self.stage.host),
            secrets=services.secrets,
            store_id=self._store_id,
            hold=self._hold,
            built=self._built,
            history=self._history,
        )


def _noted(verdict: Verdict, notes: Sequence[str]) -> Mapping[str, object]:
    """The verdict's details with more notes."""
    return {**verdict.details, "notes": [*verdict.details.get("notes", ()), *notes]} if notes else verdict.details
