"""`agent.fix` and `agent.work`: a code agent in a copy of the project, judged by what it left there.

`agent.fix` comes between two rounds and is told what failed; `agent.work` is told a person's or a bot's wish.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.agents import workspace
from mcp_server.agents.base import AgentRequest, Usage
from mcp_server.agents.changes import Changes, FileChange, changes, outside, removed_tests
from mcp_server.agents.commit import commit
from mcp_server.agents.registry import Registry
from mcp_server.agents.restore import restore
from mcp_server.agents.sentinel import sentinel, unchanged
from mcp_server.agents.task import AgentTask
from mcp_server.agents.transcript import Transcript
from mcp_server.agents.workspace import Workspace
from mcp_server.engine.brief import Brief, Round, prompt
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, result_of
from mcp_server.errors import BadInput, OverBudget
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.environment import job_environment
from mcp_server.model import Stage, Verdict

PROTECTED = (".git/**", "managed_components/**", ".build-orchestrator.yaml", ".woodpecker.yaml", ".github/**")
"""Never changed by an agent, whatever it was asked: what decides how its own work is judged."""

DIFF_CHARS = 20_000  # of a round's diff in its verdict; the whole is a commit of the branch
SUMMARY_CHARS = 400
DEFAULT_S = 1800.0  # of an agent without a limit


class AgentFix:
    """Params: `project`, `agent` (None: the default one), `allowed` (globs), `commands`, `prompt`, `budget`
    (`tokens`, `cost_usd`, `timeout_s` of the whole build), `branch`."""

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        registry = Registry(context.config.agents, context.environment)
        agent = await registry.usable(context.params.get("agent"))
        rows = await context.history.rows()
        left = _left(context, _spent(rows, context.spec.name))
        space = await self._workspace(context)
        since = await (await space.git(context.environment)).head() or space.base
        await restore(space, since, context.environment)  # what an attempt that was cut off left half done
        request = AgentRequest(
            prompt=await self._prompt(context, space),
            folder=str(space.folder),
            commands=tuple(context.params.get("commands", ())),
            session=_session(rows, context),
            timeout_s=context.spec.timeout_s or DEFAULT_S,
            **left,
        ).checked()
        settings = registry.settings(agent.name)
        task = AgentTask(agent=settings, request=settings.completed(request))
        environment = job_environment({}, context.environment, ())
        environment |= registry.environment(agent.name, context.secrets.resolve)
        resolved = {
            "agent": agent.name,
            "place": str(space.place),
            "folder": str(space.folder),
            "branch": space.branch,
            "since": since,
            "project_state": await sentinel(space.project, context.environment),
            "left_out": list(space.left_out),
        }
        return Prepared(
            argv=[sys.executable, "-P", "-m", "mcp_server.agents.run", str(await _written(context, task))],
            cwd=str(space.folder),
            env=environment,
            resolved=resolved,
            note=f"{agent.name} works in {space.folder}, on branch {space.branch}",
        )

    async def _workspace(self, context: StageContext) -> Workspace:
        number = context.build.retry_of if context.build.plan.fix_first else context.build.id
        place = context.config.worktrees_dir / f"{context.store_id}-{context.build.id}"
        branch = str(context.params.get("branch") or f"bo/fix-{number}-{context.build.id}")
        if (there := await workspace.open_(place)) is not None:
            branch = there.branch  # begun by the build's `agent.work`
        return await workspace.make(Path(context.params["project"]), place, branch, environment=context.environment)

    async def _prompt(self, context: StageContext, space: Workspace) -> str:
        rounds = await _rounds(context)
        if not rounds:
            raise BadInput("build", "nothing failed that could be mended")
        found = await changes(space, environment=context.environment)
        brief = Brief(
            folder=space.folder,
            rounds=rounds,
            of=context.build.plan.max_rounds,
            diff=found.diff,
            allowed=context.params.get("allowed", ()),
            commands=context.params.get("commands", ()),
            wish=str(context.params.get("prompt") or ""),
        )
        return await asyncio.to_thread(prompt, brief)

    def observe(self, context: StageContext) -> Observer:
        return Transcript()

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, Transcript)
        observer.close()
        resolved = context.stage.resolved or {}
        space = await workspace.open_(Path(resolved["place"]))
        details: dict[str, Any] = {"agent": resolved["agent"], "branch": resolved["branch"], **_cost(observer)}
        notes = list(resolved.get("left_out", ()))
        if space is None:
            return _failed(f"{resolved['place']} is gone", "agent", details)
        if not await unchanged(space.project, resolved["project_state"], context.environment):
            notes.append(f"{space.project} itself changed meanwhile, by a person or by the agent")
        details |= {"notes": notes} if notes else {}
        found = await changes(space, resolved["since"], context.environment)
        bad = _bad_end(end, observer)
        if not found.files:
            said = f", and said: {_last_words(observer)}" if _last_words(observer) else ""
            sentence = f"{resolved['agent']} changed nothing{said}"
            return _with(bad, details) if bad else _failed(sentence, "no_change", details)
        if wrong := _not_allowed(context, found):
            await restore(space, resolved["since"], context.environment)
            sentence = f"{resolved['agent']} changed what it may not, so all was taken back: {'; '.join(wrong[:5])}"
            return _failed(sentence, "outside", details)
        if bad is not None and end.reason in (ExitReason.CANCELLED, ExitReason.LOST):
            return _with(bad, details)  # half a change is none: the next attempt begins where this one did
        message = f"{context.spec.name}: round {context.stage.round} of build {context.build.id}"
        details |= {
            "commit_sha": await commit(space, message, environment=context.environment),
            "files_changed": [file.path for file in found.files],
            "diff": found.diff[:DIFF_CHARS],
        }
        return Verdict(result="pass", summary=_summary(resolved["agent"], found), details=details)


class AgentWork(AgentFix):
    """Params as those of `agent.fix`; `prompt` says what is to be done."""

    async def _workspace(self, context: StageContext) -> Workspace:
        place = context.config.worktrees_dir / f"{context.store_id}-{context.build.id}"
        branch = str(context.params.get("branch") or f"bo/build-{context.build.id}")
        return await workspace.make(Path(context.params["project"]), place, branch, environment=context.environment)

    async def _prompt(self, context: StageContext, space: Workspace) -> str:
        return WORK.format(folder=space.folder, wish=context.params["prompt"])


WORK = """\
You work alone, in {folder}: edit files there and nowhere else. When you are done, stop: the project is built and tested
then, and if it fails you are told of what. Nothing that you say counts, only the files you leave.

# What is to be done

{wish}"""


# -- what came before ----------------------------------------------------------------------------------------------


async def _rounds(context: StageContext) -> Sequence[Round]:
    """The rounds so far, the failed build's first where this one was started to mend it."""
    rows, name = await context.history.rows(), context.spec.name
    found: list[Round] = []
    if context.build.plan.fix_first and (before := await context.history.retried()):
        found.append(Round(1, _last(before, max(row.round for row in before)), _fix_of(rows, name, 1)))
    for number in sorted({row.round for row in rows if row.stage != name}):
        attempts = [row for row in _last(rows, number) if row.stage != name]
        found.append(Round(number, attempts, _fix_of(rows, name, number)))
    now = context.stage.round
    return [one if one.number < now else Round(one.number, one.rows) for one in found if one.number <= now]


def _last(rows: Sequence[Stage], round_: int) -> Sequence[Stage]:
    return list({row.stage: row for row in rows if row.round == round_}.values())


def _fix_of(rows: Sequence[Stage], name: str, round_: int) -> Stage | None:
    return next((row for row in reversed(rows) if row.stage == name and row.round == round_), None)


def _session(rows: Sequence[Stage], context: StageContext) -> str | None:
    """The agent's session of an earlier round, or of an attempt that was lost."""
    told = [row.verdict.details.get("session") for row in rows if row.stage == context.spec.name and row.verdict]
    return next((str(session) for session in reversed(told) if session), None)


def _spent(rows: Sequence[Stage], name: str) -> Usage:
    told = [row.verdict.details.get("usage") for row in rows if row.stage == name and row.verdict]
    used = [Usage.model_validate(usage) for usage in told if usage]
    costs = [usage.cost_usd for usage in used if usage.cost_usd is not None]
    return Usage(
        turns=sum(usage.turns for usage in used),
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
        cost_usd=sum(costs) if costs else None,
    )


def _left(context: StageContext, spent: Usage) -> dict[str, Any]:
    """What is left of the build's budget. OverBudget: nothing."""
    budget: Mapping[str, Any] = context.params.get("budget") or {}
    left: dict[str, Any] = {}
    if (tokens := budget.get("tokens")) is not None:
        left["max_tokens"] = int(tokens) - spent.input_tokens - spent.output_tokens
    if (cost := budget.get("cost_usd")) is not None:
        left["max_cost_usd"] = round(float(cost) - (spent.cost_usd or 0), 6)
    for name, value in left.items():
        if value <= 0:
            raise OverBudget(f"the budget of this build is used up: {name.removeprefix('max_')} {budget}")
    return left


# -- what it left ----------------------------------------------------------------------------------------------------


def _not_allowed(context: StageContext, found: Changes) -> list[str]:
    return [*outside(found, context.params.get("allowed", ()), PROTECTED), *removed_tests(found)]


def _failed(sentence: str, reason: str, details: Mapping[str, Any]) -> Verdict:
    return Verdict(result="fail", summary=sentence[:SUMMARY_CHARS], details={**details, "reason": reason})


def _with(verdict: Verdict, details: Mapping[str, Any]) -> Verdict:
    return verdict.model_copy(update={"details": {**details, **verdict.details}})


def _last_words(log: Transcript) -> str:
    said = [line[2:].strip() for line in log.last_lines if line.startswith("| ")]
    return next((line for line in reversed(said) if line), "")[:200]


def _bad_end(end: Exit, log: Transcript) -> Verdict | None:
    """Why an agent did not come to its own end; None: it did."""
    if end.reason is not ExitReason.EXIT:
        verdict = result_of(end)
        reason = {ExitReason.TIMEOUT: "budget"}.get(end.reason, end.reason.value)
        return verdict.model_copy(update={"details": {"reason": reason}})
    if log.result is None:
        return Verdict(
            result="fail",
            summary=f"the agent's job ended without a result: {' '.join(log.last_lines[-2:])[:300]}",
            details={"reason": "agent"},
        )
    if log.result.stopped == "end":
        return None
    reason = "budget" if log.result.stopped == "limit" else "agent"
    return Verdict(result="fail", summary=log.result.text[:SUMMARY_CHARS], details={"reason": reason})


def _cost(log: Transcript) -> dict[str, Any]:
    usage = log.result.usage if log.result else log.usage
    found: dict[str, Any] = {"usage": usage.model_dump(mode="json", exclude_none=True)}
    if log.session:
        found["session"] = log.session
    if log.result and log.result.denied:
        found["denied"] = log.result.denied
    return found


def _told(file: FileChange) -> str:
    lines = f" +{file.added} -{file.removed}" if file.added is not None else ""
    return f"{file.path}{lines if file.status != 'deleted' else ' (deleted)'}"


def _summary(agent: str, changes: Changes) -> str:
    files = ", ".join(_told(file) for file in changes.files[:4])
    more = f" and {len(changes.files) - 4} more" if len(changes.files) > 4 else ""
    return f"{agent} changed {files}{more}"[:SUMMARY_CHARS]


async def _written(context: StageContext, task: AgentTask) -> Path:
    """The task in a file beside the workspaces, which only this user can read."""
    stage = context.stage
    name = f"{context.store_id}-{stage.build}-{stage.stage}-{stage.round}-{stage.attempt}.json"
    return await asyncio.to_thread(_write, context.config.worktrees_dir / "tasks", name, task.model_dump_json())


def _write(folder: Path, name: str, content: str) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    return path
