"""One build's graph, walked: rounds with a fix between them, attempts, what is skipped and what decided."""

import asyncio
import graphlib
from collections.abc import Callable, Mapping, Sequence

from mcp_server.engine.arrival import Belongings
from mcp_server.engine.leases import Gate
from mcp_server.engine.retry import asks_again, pause_s
from mcp_server.engine.services import Services
from mcp_server.engine.stage_run import StageRun
from mcp_server.model import Build, BuildStatus, Stage, StageSpec, StageStatus
from mcp_server.pipelines.graph import ranks
from mcp_server.store import builds, stats

MOST_AGAIN = 3  # attempts that a kind may ask for because it knows a better way
USUAL_S = 60.0  # of a stage that never ran: only the order of stages depends on it

Key = tuple[str, int, int]


class Walk:
    """Walks a plan to its end state. Rows of an earlier walk are read, not repeated; running jobs are re-attached."""

    def __init__(self, services: Services, build: Build, past: Mapping[Key, Stage]) -> None:
        self.services, self.build, self.plan = services, build, build.plan
        self._past = past
        self._made: dict[tuple[str, int], list[Stage]] = {}
        self._gate = Gate(build.plan.parallel_limit)
        self._belongings = Belongings(services.leases, build)
        self._ranks: Mapping[str, float] = {}
        self._needed = {need for stage in self.plan.stages for need in stage.depends_on}

    async def run(self) -> tuple[BuildStatus, Stage]:
        """The end state and the attempt that decided it."""
        try:
            return await self._run()
        finally:
            await self._belongings.aclose()

    async def _run(self) -> tuple[BuildStatus, Stage]:
        await self._take_directories()
        self._ranks = await self._rank()
        for round_ in range(1, self.plan.max_rounds + 1):
            if round_ > 1:
                await self.services.store.write(lambda c, n=round_: builds.set_facts(c, self.build.id, round=n))
            deciding = await self._round(round_)
            if deciding.status is StageStatus.CANCELLED:
                return BuildStatus.CANCELLED, deciding
            if self._passed(deciding):
                return BuildStatus.SUCCESS, deciding
            if self.plan.fix is None or round_ == self.plan.max_rounds:
                return BuildStatus.FAILED, deciding
            fix = await self._attempts(self.plan.fix, round_)
            if fix.status is not StageStatus.SUCCESS:
                return BuildStatus.FAILED, deciding
        raise AssertionError("a plan has at least one round")

    async def _take_directories(self) -> None:
        """Lease every build directory of the plan; in one order for all builds, so that no two wait for each other."""
        stages = [*self.plan.stages, *([self.plan.fix] if self.plan.fix else [])]
        for resource in sorted({f"dir:{stage.host}:{stage.directory}" for stage in stages if stage.directory}):
            await self.services.leases.acquire_one(resource, build=self.build)

    async def _rank(self) -> Mapping[str, float]:
        """Seconds from each stage's start to the build's end, from earlier builds: the longest way goes first."""
        if len(self.plan.stages) == 1:
            return {}
        usual = await self.services.store.read(
            lambda c: stats.stage_durations(c, self.build.project_id, self.build.name)
        )
        durations = {stage.name: usual.get(stage.name, USUAL_S) for stage in self.plan.stages}
        return ranks({stage.name: stage.depends_on for stage in self.plan.stages}, durations)

    async def _round(self, round_: int) -> Stage:
        """Walk the graph; what failed once more, as often as the plan's end asks for it, when all else is over."""
        deciding = _deciding(results := await self._graph(round_, again=False), self._passed)
        for _ in range(self.plan.on_failure.retry):
            if deciding.status is StageStatus.CANCELLED or all(self._passed(stage) for stage in results):
                break
            deciding = _deciding(results := await self._graph(round_, again=True), self._passed)
        return deciding

    async def _graph(self, round_: int, *, again: bool) -> Sequence[Stage]:
        graphlib.TopologicalSorter({stage.name: stage.depends_on for stage in self.plan.stages}).prepare()
        tasks: dict[str, asyncio.Task[Stage]] = {}
        # None runs before all are made; the longest way goes first also where all begin at once.
        for spec in sorted(self.plan.stages, key=lambda spec: -self._ranks.get(spec.name, 0)):
            tasks[spec.name] = asyncio.create_task(self._after(spec, round_, tasks, again=again))
        try:
            return await asyncio.gather(*(tasks[spec.name] for spec in self.plan.stages))
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values())

    async def _after(
        self, spec: StageSpec, round_: int, tasks: Mapping[str, asyncio.Task[Stage]], *, again: bool
    ) -> Stage:
        made = self._made.get((spec.name, round_))
        if again and made and self._passed(made[-1]):
            return made[-1]
        if spec.skip:
            return await self._skip(spec, round_, "when")
        results = [await tasks[need] for need in spec.depends_on]
        if not all(self._passed(result) for result in results):
            return await self._skip(spec, round_, "dependency")
        return await self._attempts(spec, round_)

    def _passed(self, stage: Stage) -> bool:
        """Whether those that come after it may go on."""
        if stage.status is StageStatus.FAILED:
            return any(spec.name == stage.stage and spec.allow_failure for spec in self.plan.stages)
        return stage.status is StageStatus.SUCCESS or (stage.status, stage.reason) == (StageStatus.SKIPPED, "when")

    async def _skip(self, spec: StageSpec, round_: int, reason: str) -> Stage:
        made = self._made.setdefault((spec.name, round_), [])
        stage = self._next(spec, round_)
        if stage.status is not StageStatus.SKIPPED:
            now = self.services.clock.now()
            stage = stage.model_copy(update={"status": StageStatus.SKIPPED, "reason": reason, "ended_at": now})
            await self.services.store.write(lambda c: builds.put_stage(c, stage, now))
        made.append(stage)
        return stage

    def _next(self, spec: StageSpec, round_: int) -> Stage:
        """The row of the next attempt: as it was left, or new."""
        attempt = len(self._made.get((spec.name, round_), ())) + 1
        return self._past.get((spec.name, round_, attempt)) or Stage(
            build=self.build.id,
            stage=spec.name,
            round=round_,
            attempt=attempt,
            kind=spec.kind,
            host=spec.host,
            status=StageStatus.WAITING,
        )

    async def _attempts(self, spec: StageSpec, round_: int) -> Stage:
        """Attempts until one passes or no more are due; the last one's row."""
        made = self._made.setdefault((spec.name, round_), [])
        counted: list[Stage] = []
        asked, fresh = 0, False
        while True:
            stage = self._next(spec, round_)
            if stage.status.is_open:
                pause = pause_s(spec.retry, len(counted)) if counted else 0
                run = StageRun(
                    self.services,
                    self.build,
                    spec,
                    stage,
                    made,
                    rank=self._ranks.get(spec.name, 0),
                    heirs=spec.name in self._needed,
                    gate=self._gate,
                    belongings=self._belongings,
                )
                stage = await run.run(pause_s=pause)
                fresh = True
            made.append(stage)
            if stage.verdict and stage.verdict.details.get("again") and asked < MOST_AGAIN:
                asked += 1
                continue
            counted.append(stage)
            if not asks_again(spec.retry, counted):
                if fresh and (self.plan.on_failure.notify or self.plan.on_success.notify):
                    self._tell_end(spec, stage)
                return stage

    def _tell_end(self, spec: StageSpec, stage: Stage) -> None:
        names = [other.name for other in self.plan.stages]
        if spec.name in names:  # a fix is told by the stage that it mends
            self.services.notifier.stage_ended(self.build, stage, names.index(spec.name) + 1, len(names))


def _deciding(results: Sequence[Stage], passed: Callable[[Stage], bool]) -> Stage:
    """The first attempt that did not pass, or else the last; what is skipped comes after what did not."""
    failed = (stage for stage in results if not passed(stage) and stage.status is not StageStatus.SKIPPED)
    return next(failed, results[-1])
