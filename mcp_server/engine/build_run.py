"""`run_build`: one build to its end state, over rows and jobs; may run again from the top at any time."""

import asyncio
import graphlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.engine.services import Services
from mcp_server.engine.source import read_commit
from mcp_server.engine.stage_run import GRACE_S, StageRun
from mcp_server.errors import HostUnreachable, NotFound, StoreError
from mcp_server.hosts.base import ExitReason
from mcp_server.model import Build, BuildStatus, Stage, StageSpec, StageStatus
from mcp_server.store import builds, leases

log = logging.getLogger(__name__)

AWAY_S = 10
AGAIN_S = 1  # store or host away: the whole build from the top, nothing is lost by it
LOG_TAIL_BYTES = 16_384  # of the deciding stage's log, kept in `build_output`
COMMIT_S = 1  # a build that is over waits so long for Git on a huge tree or a slow disk
MOST_AGAIN = 3  # attempts that a kind may ask for because it knows a better way

Key = tuple[str, int, int]


class BuildRun:
    """One build in this worker. `stop` cancels it as the user's wish; cancelling the task only lets go of it."""

    def __init__(self, services: Services, build_id: int) -> None:
        self.services, self.build_id = services, build_id
        self.stop = asyncio.Event()
        self.past: Mapping[Key, Stage] = {}

    async def run(self) -> None:
        """Never raises, but for the cancelling of a leaving worker: then rows and jobs stay as they are."""
        broken: str | None = None
        away_since: float | None = None
        said = ""
        while True:
            try:
                if broken is None:
                    return await self._run()
                status = BuildStatus.CANCELLED if self.stop.is_set() else BuildStatus.FAILED
                return await self._end(status, "internal" if away_since is None else "unreachable", None, broken)
            except (StoreError, HostUnreachable) as error:
                if str(error) != said:
                    log.warning("build %d waits: %s", self.build_id, error)
                    said = str(error)
                if isinstance(error, HostUnreachable):
                    away_since = self.services.clock.monotonic() if away_since is None else away_since
                    if self.services.clock.monotonic() - away_since >= AWAY_S:
                        broken = str(error)  # this machine itself cannot run jobs: a tool is missing, a disk is gone
                await self.services.clock.sleep(AGAIN_S)
            except Exception as error:
                if broken is not None:
                    log.exception("build %d cannot be ended", self.build_id)
                    return None
                log.exception("build %d", self.build_id)
                broken = f"internal error: {type(error).__name__}; see logs/worker.log"

    async def _run(self) -> None:
        build, rows = await self.services.store.read(
            lambda c: (builds.get_build(c, self.build_id), builds.stages_of(c, self.build_id))
        )
        if not build.status.is_open:
            return
        self.past = {(row.stage, row.round, row.attempt): row for row in rows}
        if build.cancel_requested:
            self.stop.set()
        walk = asyncio.create_task(self._walk(build))
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({walk, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if walk.done():
                status, stage = walk.result()
                await self._end(status, _reason(status, stage), stage)
                return
        finally:
            walk.cancel()
            stopped.cancel()
            await asyncio.wait({walk, stopped})
        await self._cancel(build)

    async def _walk(self, build: Build) -> tuple[BuildStatus, Stage]:
        """Rounds of the graph, a fix between them; the end state and the stage that decided it."""
        project = str(build.plan.stages[0].params.get("project", ""))
        commit = asyncio.create_task(self._note_commit(project))
        try:
            await self._take_directories(build)
            for round_ in range(1, build.plan.max_rounds + 1):
                if round_ > 1:
                    await self.services.store.write(lambda c, n=round_: builds.set_facts(c, build.id, round=n))
                deciding = await self._walk_round(build, round_)
                if deciding.status is StageStatus.SUCCESS:
                    return BuildStatus.SUCCESS, deciding
                if deciding.status is StageStatus.CANCELLED:
                    return BuildStatus.CANCELLED, deciding
                if build.plan.fix is None or round_ == build.plan.max_rounds:
                    return BuildStatus.FAILED, deciding
                fix = await self._stage(build, build.plan.fix, round_)
                if fix.status is not StageStatus.SUCCESS:
                    return BuildStatus.FAILED, deciding
            raise AssertionError("a plan has at least one round")
        except BaseException:
            commit.cancel()
            raise
        finally:
            await asyncio.wait({commit}, timeout=COMMIT_S)
            commit.cancel()
            await asyncio.wait({commit})

    async def _take_directories(self, build: Build) -> None:
        """Lease every build directory of the plan; in one order for all builds, so that no two wait for each other."""
        stages = [*build.plan.stages, *([build.plan.fix] if build.plan.fix else [])]
        for resource in sorted({f"dir:{s.host}:{s.directory}" for s in stages if s.directory}):
            await self.services.leases.acquire(
                resource, slots=1, build=build.id, stage=None, reason=f"build {build.id}", priority=build.priority
            )

    async def _walk_round(self, build: Build, round_: int) -> Stage:
        """Walk the graph once; the stage that decided it: the first that did not pass, or else the last."""
        stages = {stage.name: stage for stage in build.plan.stages}
        graph = {name: stage.depends_on for name, stage in stages.items()}
        tasks: dict[str, asyncio.Task[Stage]] = {}
        for name in graphlib.TopologicalSorter(graph).static_order():
            needs = [tasks[needed] for needed in stages[name].depends_on]
            tasks[name] = asyncio.create_task(self._after(build, stages[name], round_, needs))
        try:
            results = await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values())
        passed = (StageStatus.SUCCESS, StageStatus.SKIPPED)  # what is skipped comes after something that did not pass
        return next((stage for stage in results if stage.status not in passed), results[-1])

    async def _after(self, build: Build, spec: StageSpec, round_: int, needs: list[asyncio.Task[Stage]]) -> Stage:
        for need in needs:
            if (await need).status is not StageStatus.SUCCESS:
                return await self._skip(build, spec, round_)
        return await self._stage(build, spec, round_)

    async def _skip(self, build: Build, spec: StageSpec, round_: int) -> Stage:
        stage = Stage(
            build=build.id,
            stage=spec.name,
            round=round_,
            kind=spec.kind,
            host=spec.host,
            status=StageStatus.SKIPPED,
            reason="dependency",
        )
        now = self.services.clock.now()
        await self.services.store.write(lambda c: builds.put_stage(c, stage, now))
        return stage

    async def _stage(self, build: Build, spec: StageSpec, round_: int) -> Stage:
        """Attempts at a stage until one passes or no more are due; the last one's row."""
        attempts: list[Stage] = []
        while True:
            key = (spec.name, round_, len(attempts) + 1)
            stage = self.past.get(key) or Stage(
                build=build.id,
                stage=spec.name,
                round=round_,
                attempt=key[2],
                kind=spec.kind,
                host=spec.host,
                status=StageStatus.WAITING,
            )
            if stage.status.is_open:
                stage = await StageRun(self.services, build, spec, stage, attempts).run()
            attempts.append(stage)
            if stage.status is not StageStatus.FAILED:
                return stage
            asked = [a for a in attempts if a.verdict and a.verdict.details.get("again")]
            if stage in asked and len(asked) <= MOST_AGAIN:
                continue
            if len(attempts) - len(asked) >= spec.retry.times + 1 or stage.reason == ExitReason.EXIT:
                return stage  # a program that said no says no again

    async def _cancel(self, build: Build) -> None:
        """End every job of the build, to its last child, then its rows."""
        rows = await self.services.store.read(lambda c: builds.stages_of(c, build.id))
        jobs = [row for row in rows if row.status.is_open and row.job_id]
        await asyncio.gather(*(self.services.host(row.host).kill(row.job_id or "", GRACE_S) for row in jobs))
        now = self.services.clock.now()
        await self.services.store.write(lambda c: builds.close_open_stages(c, build.id, "cancelled", now))
        await self._end(BuildStatus.CANCELLED, "cancelled", jobs[-1] if jobs else None)

    async def _end(self, status: BuildStatus, reason: str, stage: Stage | None, sentence: str = "") -> None:
        """The end state, what was found and the leases, in one transaction. `stage` is the one that decided."""
        output = sentence or await self._output(stage)
        now = self.services.clock.now()

        def statements(c: builds.sa.Connection) -> set[str]:
            rows = builds.stages_of(c, self.build_id)
            columns = {"build_output": output, "test_results": _tests(rows), "artifacts_path": _place(rows)}
            # Not when it was noticed: after a worker's death that may be much later.
            ended_at = max((row.ended_at for row in rows if row.ended_at), default=now)
            builds.end_build(c, self.build_id, status, reason, ended_at, **columns)
            return leases.release_of(c, self.build_id, now)

        for resource in await self.services.store.write(statements):
            await self.services.leases.offer(resource)

    async def _output(self, stage: Stage | None) -> str:
        """The verdict's sentence and the end of the log."""
        summary = stage.verdict.summary if stage and stage.verdict else ""
        if stage is None or stage.job_id is None:
            return summary
        try:
            tail = await self.services.host(stage.host).read_log(stage.job_id, -LOG_TAIL_BYTES, LOG_TAIL_BYTES)
        except NotFound:
            tail = b""
        return f"{summary}\n{tail.decode('utf-8', 'replace')}".replace("\0", "").strip()

    async def _note_commit(self, project: str) -> None:
        try:
            facts = await read_commit(project)
            await self.services.store.write(lambda c: builds.set_facts(c, self.build_id, **facts))
        except Exception:  # what is built matters more than under which name
            log.exception("build %d: commit of %s", self.build_id, project)


def _tests(rows: Sequence[Stage]) -> dict[str, Any] | None:
    """Verdicts of the stages that run what was built, by name; the last attempt's counts."""
    found = {row.stage: row.verdict.model_dump(mode="json") for row in rows if row.kind == "idf.run" and row.verdict}
    return found or None


def _place(rows: Sequence[Stage]) -> str | None:
    """The build directory, as far as one was decided on."""
    places = [row.resolved["build_dir"] for row in rows if row.resolved and "build_dir" in row.resolved]
    return places[-1] if places else None


def _reason(status: BuildStatus, stage: Stage) -> str:
    return "exit" if status is BuildStatus.SUCCESS else stage.reason or "exit"
