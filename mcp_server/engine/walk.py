"""One build's graph, walked: rounds with a fix between them, attempts, what is skipped and what decided."""

import asyncio
import graphlib
from collections.abc import Callable, Mapping, Sequence

from mcp_server.engine.arrival import Belongings
from mcp_server.engine.leases import Gate
from mcp_server.engine.retry import asks_again, pause_s
from mcp_server.engine.rounds import AGENTS, FINAL, STOPS, evidence, first_cause
from mcp_server.engine.services import Services
from mcp_server.engine.stage_row import StageRow
from mcp_server.engine.stage_run import StageRun
from mcp_server.model import Build, BuildStatus, Lease, Stage, StageSpec, StageStatus
from mcp_server.moved import left_for_copy, moved
from mcp_server.pipelines.graph import ranks
from mcp_server.store import builds, stats
from mcp_server.store import leases as table

MOST_AGAIN = 3  # attempts that a kind may ask for because it knows a better way
USUAL_S = 60.0  # of a stage that never ran: only the order of stages depends on it

Key = tuple[str, int, int]


class Walk:
    """Walks a plan to its end state. Rows of an earlier walk are read, not repeated; running jobs are re-attached.

    `rows` are those of all attempts that are over, as they were written, and of an earlier walk.
    """

    def __init__(self, services: Services, build: Build, past: Mapping[Key, Stage]) -> None:
        self.services, self.build, self.plan = services, build, build.plan
        self.rows = dict(past)
        self._made: dict[tuple[str, int], list[Stage]] = {}
        self._gate = Gate(build.plan.parallel_limit)
        self._belongings = Belongings(services.leases, build)
        self._ranks: Mapping[str, float] = {}
        self._directories: dict[str, Lease] = {}
        self._needed = {need for stage in self.plan.stages for need in stage.depends_on}
        self.why: str | None = None

    async def run(self) -> tuple[BuildStatus, Stage]:
        """The end state and the attempt that decided it."""
        try:
            return await self._run()
        finally:
            await self._belongings.aclose()

    async def _run(self) -> tuple[BuildStatus, Stage]:
        await self._take_directories()
        self._ranks = await self._rank()
        round_, causes = 1, set[str]()
        if self.plan.fix_first and self.plan.fix is not None:
            causes |= await self._cause_before()
            fix = await self._attempts(self.plan.fix, round_)
            if fix.status is not StageStatus.SUCCESS:
                return _ended(fix)
            round_ = 2
        while True:
            if round_ > 1:
                await self.services.store.write(lambda c, n=round_: builds.set_facts(c, self.build.id, round=n))
            deciding = await self._round(round_)
            if deciding.status is StageStatus.CANCELLED:
                return BuildStatus.CANCELLED, deciding
            if self._passed(deciding):
                return BuildStatus.SUCCESS, deciding
            if self.plan.fix is None or round_ >= self.plan.max_rounds or not self._mendable(deciding):
                return BuildStatus.FAILED, deciding
            cause = first_cause(deciding)
            if self.plan.workspace and cause in causes:
                self.why = "no_progress"
                return BuildStatus.FAILED, deciding
            causes.add(cause)
            await self._let_go()
            fix = await self._attempts(self.plan.fix, round_)
            if fix.status is not StageStatus.SUCCESS:
                self.why = fix.reason if fix.reason in STOPS else None
                return BuildStatus.FAILED, deciding
            round_ += 1

    async def _cause_before(self) -> set[str]:
        """What the build failed of that this one is to mend."""
        number = self.build.retry_of
        rows = [] if number is None else await self.services.store.read(lambda c: builds.stages_of(c, number))
        continued = self.plan.fix is not None and "begin" in self.plan.fix.params
        last = {row.stage: row for row in evidence(rows, continued=continued)}
        results = [last[spec.name] for spec in self.plan.stages if spec.name in last]
        return {first_cause(_deciding(results, self._passed))} if results else set()

    async def _take_directories(self) -> None:
        """Lease every build directory of the plan; in one order for all builds, so that no two wait for each other."""
        stages = [*self.plan.stages, *([self.plan.fix] if self.plan.fix else [])]
        mended = self.plan.fix_first or any(row.kind in AGENTS for row in self.rows.values())
        for resource in sorted({_lease_of(stage) for stage in stages if stage.directory}):
            if mended and resource in self._left_for_copy():
                continue
            self._directories[resource] = await self.services.leases.acquire_one(resource, build=self.build)

    def _left_for_copy(self) -> set[str]:
        """The build directories of the project itself: from the first fix on, all is built in the agent's copy."""
        return {f"dir:{host}:{directory}" for host, directory in left_for_copy(self.plan)}

    async def _let_go(self) -> None:
        """Give those back: whoever works on the project meanwhile may build it."""
        leases = [self._directories.pop(name) for name in self._left_for_copy() & self._directories.keys()]
        if not leases:
            return
        now = self.services.clock.now()

        def statements(c: builds.sa.Connection) -> None:
            for lease in leases:
                table.release(c, lease, now)

        await self.services.store.write(statements)
        self.services.leases.release(leases)

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
        if spec.once and round_ > 1:
            return self._made[spec.name, 1][-1]
        made = self._made.get((spec.name, round_))
        if again and made and self._passed(made[-1]):
            return made[-1]
        if spec.skip:
            return await self._skip(spec, round_, "when")
        results = [await tasks[need] for need in spec.depends_on]
        if any(result.status is StageStatus.CANCELLED for result in results):
            return await self._skip(spec, round_, "dependency")
        if not spec.always and not all(self._passed(result) for result in results):
            return await self._skip(spec, round_, "dependency")
        return await self._attempts(spec, round_)

    def _passed(self, stage: Stage) -> bool:
        """Whether those that come after it may go on."""
        if stage.status is StageStatus.FAILED:
            return any(spec.name == stage.stage and spec.allow_failure for spec in self.plan.stages)
        return stage.status is StageStatus.SUCCESS or (stage.status, stage.reason) == (StageStatus.SKIPPED, "when")

    def _mendable(self, stage: Stage) -> bool:
        """Whether another round would run what failed, and could come to anything else by a change of the sources."""
        once = any(spec.once for spec in self.plan.stages if spec.name == stage.stage)
        return not once and stage.kind not in FINAL

    async def _skip(self, spec: StageSpec, round_: int, reason: str) -> Stage:
        made = self._made.setdefault((spec.name, round_), [])
        row = StageRow(self.services, self.build, self._next(spec, round_), spec.role)
        if row.stage.status is not StageStatus.SKIPPED:
            await row.skip(reason, spec.skip)
        self._keep(made, row.stage)
        return row.stage

    def _keep(self, made: list[Stage], stage: Stage) -> None:
        made.append(stage)
        self.rows[stage.stage, stage.round, stage.attempt] = stage

    def _next(self, spec: StageSpec, round_: int) -> Stage:
        """The row of the next attempt: as it was left, or new."""
        attempt = len(self._made.get((spec.name, round_), ())) + 1
        return self.rows.get((spec.name, round_, attempt)) or Stage(
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
                    self._moved(spec),
                    stage,
                    made,
                    rank=self._ranks.get(spec.name, 0),
                    heirs=spec.name in self._needed,
                    gate=self._gate,
                    belongings=self._belongings,
                )
                stage = await run.run(pause_s=pause)
                fresh = True
            self._keep(made, stage)
            if stage.verdict and stage.verdict.details.get("again") and asked < MOST_AGAIN:
                asked += 1
                continue
            counted.append(stage)
            if not asks_again(spec.retry, counted):
                if fresh and (self.plan.on_failure.notify or self.plan.on_success.notify):
                    self._tell_end(spec, stage)
                return stage

    def _moved(self, spec: StageSpec) -> StageSpec:
        """The stage as it runs now: in the copy of the project that an agent worked on, once one has."""
        if self.plan.workspace is None or spec.kind in AGENTS:
            return spec
        worked = (rows[-1] for rows in self._made.values() if rows and rows[-1].kind in AGENTS)
        places = [(row.resolved or {}).get("folder") for row in worked if row.status is StageStatus.SUCCESS]
        return moved(spec, self.plan.workspace, str(places[-1])) if places and places[-1] else spec

    def _tell_end(self, spec: StageSpec, stage: Stage) -> None:
        names = [other.name for other in self.plan.stages]
        if spec.name in names:  # a fix is told by the stage that it mends
            self.services.notifier.stage_ended(self.build, stage, names.index(spec.name) + 1, len(names))


def _lease_of(stage: StageSpec) -> str:
    return f"dir:{stage.host}:{stage.directory}"


def _ended(stage: Stage) -> tuple[BuildStatus, Stage]:
    """Where the first thing to be done decides all."""
    cancelled = stage.status is StageStatus.CANCELLED
    return BuildStatus.CANCELLED if cancelled else BuildStatus.FAILED, stage


def _deciding(results: Sequence[Stage], passed: Callable[[Stage], bool]) -> Stage:
    """The first attempt that did not pass, or else the last; what is skipped comes after what did not."""
    failed = (stage for stage in results if not passed(stage) and stage.status is not StageStatus.SKIPPED)
    return next(failed, results[-1])
