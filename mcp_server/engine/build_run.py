"""`run_build`: one build to its end state, over rows and jobs; may run again from the top at any time."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.bot_result import bot_result
from mcp_server.build_spec import BuildResult
from mcp_server.config_rules import LOCAL
from mcp_server.engine import results
from mcp_server.engine.commit_state import commit_state
from mcp_server.engine.expand import expanded
from mcp_server.engine.imported import settle
from mcp_server.engine.rounds import AGENTS
from mcp_server.engine.services import Services
from mcp_server.engine.source import read_commit
from mcp_server.engine.stage_run import StageRun
from mcp_server.engine.stages.kinds import SAYS_WHAT_IS_LEFT
from mcp_server.engine.walk import Walk
from mcp_server.engine.watch import GRACE_S
from mcp_server.engine.worktrees import forget_tasks
from mcp_server.errors import BadInput, HostUnreachable, NotFound, OrchestratorError, StoreError
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageStatus
from mcp_server.notify.callback import make_payload
from mcp_server.project_plans import CHECKOUT
from mcp_server.store import builds, callbacks, leases
from mcp_server.store.claims import Taken
from mcp_server.store.commit_statuses import tell_github
from mcp_server.store.superseded import SUPERSEDED, is_built_anew

log = logging.getLogger(__name__)

AGAIN_S = 1  # store away, or the host of a job that is to be ended: from the top, nothing is lost by it
LOG_TAIL_BYTES = 16_384  # of the deciding stage's log, kept in `build_output`
LAST_WORDS_S = 5
NOTE_S = 0.25  # its commit is written so late: many a build is over by then
COMMIT_S = 1  # a build that is over waits so long for Git on a huge tree or a slow disk


RUNS = ("idf.run", "idf.qemu", "idf.boot")  # kinds that run what was built


class BuildRun:
    """One build in this worker. `stop` cancels it as the user's wish; cancelling the task only lets go of it.

    `row`: that of a build which was just taken, and of which there are neither stages nor leases yet.
    """

    def __init__(self, services: Services, build_id: int, row: Mapping[str, Any] | None = None) -> None:
        self.services, self.build_id, self._row = services, build_id, row
        self.stop = asyncio.Event()
        self.plan: Plan | None = None  # as it was last read
        self.told = self.archives = False
        self._commit: Mapping[str, str | None] = {}  # what is known of it
        self._walked = asyncio.Event()

    async def run(self) -> None:
        """Never raises, but for the cancelling of a leaving worker: then rows and jobs stay as they are."""
        broken: str | None = None
        said = ""
        while True:
            try:
                if broken is None:
                    return await self._run()
                status = BuildStatus.CANCELLED if self.stop.is_set() else BuildStatus.FAILED
                return await self._end(status, "internal", None, broken)
            except Taken as taken:
                return log.warning("%s", taken)
            except (StoreError, HostUnreachable) as error:
                if str(error) != said:
                    log.warning("build %d waits: %s", self.build_id, error)
                    said = str(error)
                self.services.leases.comes_back(self.build_id)
                await self.services.clock.sleep(AGAIN_S)
            except Exception as error:
                if broken is not None:
                    log.exception("build %d cannot be ended", self.build_id)
                    return None
                log.exception("build %d", self.build_id)
                broken = f"internal error: {type(error).__name__}; see logs/worker.log"

    async def _run(self) -> None:
        row, self._row = self._row, None  # only what is read anew is true of a second time
        build, rows = (await self.services.store.read(self._facts)) if row is None else (Build(**row), ())
        if not build.status.is_open:
            return None
        if build.cancel_requested:
            self.stop.set()
        if self.stop.is_set():
            return await self._cancel(build)
        await self.services.refresh()
        if build.plan.pushed is not None:
            self.services.callbacks.wake()
        endings = (build.plan.on_failure, build.plan.on_success)
        self.archives = any(one.archive for one in endings) or self.services.config.artifacts.is_remote
        self.told = bool(build.plan.on_failure.notify or build.plan.on_success.notify)
        if self.told and build.status is BuildStatus.PENDING:
            self.services.notifier.build_started(build)
        self.plan = build.plan
        graph = Walk(self.services, build, {(row.stage, row.round, row.attempt): row for row in rows})
        walk = asyncio.create_task(self._walk(build, graph))
        walk.add_done_callback(lambda done: done.cancelled() or done.exception())  # we may be cancelled as it fails
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({walk, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if walk.done():
                status, stage = walk.result()
                if status is BuildStatus.SUCCESS and build.plan.expand is not None:
                    if (wrong := await self._expand(build)) is not None:
                        return await self._end(BuildStatus.FAILED, "invalid", None, wrong)
                    return await self._run()
                made = builds.in_order(graph.rows.values())
                return await self._end(status, graph.why or _reason(status, stage), stage, rows=made)
        finally:
            walk.cancel()
            stopped.cancel()
            await asyncio.wait({walk, stopped})
        return await self._cancel(build)

    async def _expand(self, build: Build) -> str | None:
        """Add what builds the project that the stages so far have made; a sentence where that cannot be built."""
        rows = await self.services.store.read(lambda c: builds.stages_of(c, build.id))
        try:
            plan, now = await expanded(self.services, build, rows), self.services.clock.now()
        except StoreError:
            raise
        except OrchestratorError as error:
            return str(error)
        await self.services.store.write(lambda c: builds.set_plan(c, build.id, plan, now))
        self.services.leases.comes_back(build.id)  # it is walked anew, and has its directories already
        return None

    async def _walk(self, build: Build, graph: Walk) -> tuple[BuildStatus, Stage]:
        """The end state and the stage that decided it; meanwhile the commit is looked up."""
        place = next((str(one.params["checkout"]) for one in build.plan.stages if "checkout" in one.params), None)
        if place is not None:
            ended = await graph.run()
            with contextlib.suppress(TimeoutError):
                await self.services.clock.within(COMMIT_S, self._note_checkout(build, place))
            return ended
        self._walked.clear()
        commit = asyncio.create_task(self._note_commit(build))
        try:
            ended = await graph.run()
            self._walked.set()
            return ended
        except BaseException:
            commit.cancel()
            raise
        finally:
            await asyncio.wait({commit}, timeout=COMMIT_S)
            commit.cancel()
            await asyncio.wait({commit})

    async def _cancel(self, build: Build) -> None:
        """End every job of the build, to its last child, then its rows. HostUnreachable: some may still run."""
        build, rows = await self.services.store.read(self._facts)  # as it is now: why it is to end was not known before
        jobs = [row for row in rows if row.status.is_open and row.job_id]
        ended = await asyncio.gather(*(self._kill(row, build.machine) for row in jobs), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        out_of_reach = "; ".join(sentence for sentence in ended if isinstance(sentence, str) and sentence)
        why = "; ".join(sentence for sentence in (build.build_output, out_of_reach) if sentence)
        for row in jobs:
            if row.kind in SAYS_WHAT_IS_LEFT and not out_of_reach:
                await self._last_words(build, row)
        if any(row.kind in AGENTS for row in jobs):
            await forget_tasks(self.services, build.id)
        now = self.services.clock.now()
        await self.services.store.write(lambda c: builds.close_open_stages(c, build.id, "cancelled", now))
        await self._end(BuildStatus.CANCELLED, build.reason or "cancelled", jobs[-1] if jobs else None, why)

    async def _last_words(self, build: Build, row: Stage) -> None:
        """Judge a job that was just ended; without a verdict where that takes long or fails."""
        spec = next((one for one in build.plan.stages if one.name == row.stage), None)
        if spec is None:
            return
        try:
            await self.services.clock.within(LAST_WORDS_S, StageRun(self.services, build, spec, row, ()).run())
        except (TimeoutError, StoreError) as error:
            log.warning("build %d stage %s was cancelled without a verdict: %s", build.id, row.stage, error)

    async def _kill(self, row: Stage, machine: str | None) -> str:
        """End one job; a sentence where nobody here can reach it any more. HostUnreachable: it may come back."""
        if row.host == LOCAL and machine not in (None, self.services.machine):  # `local` here is another one
            return f"job {row.job_id} was not ended and may run on: its machine {machine} is away"
        try:
            await self.services.host(row.host).kill(row.job_id or "", GRACE_S)
        except BadInput as error:  # the server was taken out of config.yaml: nobody here can reach its job any more
            log.warning("build %d: job %s is not ended: %s", self.build_id, row.job_id, error)
            return f"job {row.job_id} was not ended and may run on: host {row.host} is not in config.yaml any more"
        except HostUnreachable:
            if row.unreachable_since is None:
                now = self.services.clock.now()
                away = row.model_copy(update={"unreachable_since": now})
                await self.services.store.write(lambda c: builds.put_stage(c, away, now))
            raise
        return ""

    async def _end(
        self,
        status: BuildStatus,
        reason: str,
        stage: Stage | None,
        sentence: str = "",
        *,
        rows: Sequence[Stage] | None = None,
    ) -> None:
        """The end state, what was found and the leases, in one transaction. `stage` is the one that decided.

        `rows` are those of the build where a walk has just made them: they need not be read again.
        """
        output = sentence or await self._output(stage)
        kept = await self._archive(status)
        now = self.services.clock.now()

        def statements(c: builds.sa.Connection) -> set[str]:
            build = builds.get_build(c, self.build_id, self.plan).model_copy(update=self._commit)
            made = builds.stages_of(c, self.build_id) if rows is None else rows
            columns = {
                "build_output": output,
                "test_results": _tests(made),
                "artifacts_path": kept or _place(made) or self._kept(made),
                **self._commit,
            }
            # Not when it was noticed: after a worker's death that may be much later.
            ended_at = max((row.ended_at for row in made if row.ended_at), default=now)
            if builds.end_build(c, self.build_id, status, reason, ended_at, known=build, **columns):
                if build.plan.callback is not None:
                    self._call_back(c, build, bot_result(build, status, made, ended_at, stage, sentence), status)
                state, words = commit_state(status, reason, made, stage, sentence)
                if not (reason == SUPERSEDED and is_built_anew(c, build)):
                    tell_github(c, build, state, words, now)
                settle(c, build, status, output, ended_at)
            return leases.release_of(c, self.build_id, now)

        self.services.leases.offer(await self.services.store.write(statements))
        self.services.begun.discard(self.build_id)
        if self.plan is None or self.plan.callback is not None or self.plan.pushed is not None:
            self.services.callbacks.wake()
        self.services.traces.wake()
        if self.told:
            build, rows = await self.services.store.read(self._facts)
            self.services.notifier.build_ended(build, rows)

    def _call_back(self, c: builds.sa.Connection, build: Build, result: BuildResult, status: BuildStatus) -> None:
        """Who ordered the build is to be told; kept with its end, so that neither is there without the other."""
        assert build.plan.callback is not None
        body = make_payload(build.task_id, build.project_id, status, result.model_dump(mode="json"))
        callbacks.add(c, build.id, build.task_id, build.plan.callback, body, self.services.clock.now())

    async def _archive(self, status: BuildStatus) -> str | None:
        """Keep the results where the plan asks for it; the folder they are in."""
        if not self.archives:
            return None
        build, rows = await self.services.store.read(self._facts)
        build = build.model_copy(update=self._commit)
        ending = build.plan.on_success if status is BuildStatus.SUCCESS else build.plan.on_failure
        if not ending.archive and not self.services.config.artifacts.is_remote:
            return None
        kept = await results.archive(self.services, build, status, rows)
        self.services.uploads.wake()
        return kept

    def _kept(self, rows: Sequence[Stage]) -> str | None:
        """The archive's folder of this build, where a stage has left anything there."""
        left = [row.stage for row in rows if row.verdict and row.verdict.artifacts]
        return str(self.services.archive.folder(self.build_id, left[0]).parent) if left else None

    def _facts(self, c: builds.sa.Connection) -> tuple[Build, Sequence[Stage]]:
        return builds.get_build(c, self.build_id), builds.stages_of(c, self.build_id)

    async def _output(self, stage: Stage | None) -> str:
        """The verdict's sentence and the end of the log."""
        summary = stage.verdict.summary if stage and stage.verdict else ""
        if stage is None or stage.job_id is None:
            return summary
        try:
            tail = await self.services.host(stage.host).read_log(stage.job_id, -LOG_TAIL_BYTES, LOG_TAIL_BYTES)
        except (BadInput, NotFound, HostUnreachable):
            tail = b""
        return f"{summary}\n{tail.decode('utf-8', 'replace')}".replace("\0", "").strip()

    async def _note_commit(self, build: Build) -> None:
        if build.commit_sha:
            return  # a build that is taken up again is of what it began with, whatever lies there by now
        project = await self.services.folder_of(build.project_id)
        if not project.startswith("/"):
            return  # a folder of another host
        try:
            facts = self._commit = await self.services.commits.ask(project)
            try:
                await self.services.clock.within(NOTE_S, self._walked.wait())  # then it is written with its end
            except TimeoutError:
                await self.services.store.write(lambda c: builds.set_facts(c, self.build_id, **facts))
        except StoreError as error:  # Taken, or away: then all of the build begins from the top
            log.warning("%s", error)
        except Exception:  # what is built matters more than under which name
            log.exception("build %d: commit of %s", self.build_id, project)

    async def _note_checkout(self, build: Build, place: str) -> None:
        """The commit that was built, where the checkout came to one; its branch is what was asked for."""
        _, rows = await self.services.store.read(self._facts)
        if any(row.stage == CHECKOUT and row.status is StageStatus.SUCCESS for row in rows):
            facts = {name: fact for name, fact in (await read_commit(place)).items() if fact}
            await self.services.store.write(lambda c: builds.set_facts(c, build.id, **facts))


def _tests(rows: Sequence[Stage]) -> dict[str, Any] | None:
    """Verdicts of the stages that run what was built, by name; the last attempt's counts."""
    found = {row.stage: row.verdict.model_dump(mode="json") for row in rows if row.kind in RUNS and row.verdict}
    return found or None


def _place(rows: Sequence[Stage]) -> str | None:
    """The build directory, as far as one was decided on."""
    places = [row.resolved["build_dir"] for row in rows if row.resolved and "build_dir" in row.resolved]
    return places[-1] if places else None


def _reason(status: BuildStatus, stage: Stage) -> str:
    return "exit" if status is BuildStatus.SUCCESS else stage.reason or "exit"
