"""`agent.fix` and `agent.work`: a code agent in a copy of the project, judged by what it left there.

`agent.fix` comes between two rounds and is told what failed; `agent.work` is told a person's or a bot's wish.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.agents import workspace
from mcp_server.agents.base import AgentRequest, Usage
from mcp_server.agents.registry import Registry
from mcp_server.agents.transcript import Transcript
from mcp_server.agents.workspace import Changes, Workspace
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


class AgentFix:
    """Params: `project`, `agent` (None: the default one), `allowed` (globs), `commands`, `prompt`, `budget`
    (`tokens`, `cost_usd`, `timeout_s` of the whole build), `branch`."""

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        registry = Registry(context.config.agents, context.environment)
        agent = await registry.get(context.params.get("agent"))
        spent = _spent(await context.history.rows(), context.spec.name)
        left = _left(context, spent)
        space = await self._workspace(context)
        text = await self._prompt(context, space)
        request = AgentRequest(
            prompt=text,
            folder=str(space.folder),
            commands=tuple(context.params.get("commands", ())),
            session=_session(await context.history.rows(), context),
            timeout_s=context.spec.timeout_s or 1800.0,
            **left,
        ).checked()
        task = await asyncio.to_thread(_write_task, context, registry.task(agent.name, request))
        user_state = await workspace.sentinel(Path(context.params["project"]))
        environment = job_environment({}, context.environment, context.config.env_pass)
        environment |= registry.environment(agent.name, context.secrets)
        return Prepared(
            argv=[sys.executable, "-P", "-m", "mcp_server.agents.run", str(task)],
            cwd=str(space.folder),
            env=environment,
            resolved={
                "agent": agent.name,
                "place": str(space.place),
                "folder": str(space.folder),
                "branch": space.branch,
                "base": space.base,
                "since": await workspace.head(space),
                "user_state": user_state,
            },
            note=f"{agent.name} works in {space.folder}, on branch {space.branch}",
        )

    async def _workspace(self, context: StageContext) -> Workspace:
        place = context.config.worktrees_dir / f"{context.store_id}-{context.build.id}"
        branch = str(context.params.get("branch") or f"bo/fix-{context.build.retry_of or context.build.id}")
        return await workspace.make(Path(context.params["project"]), place, branch)

    async def _prompt(self, context: StageContext, space: Workspace) -> str:
        rounds = await _rounds(context)
        if not rounds:
            raise BadInput("build", "nothing failed that could be mended")
        changes = await workspace.changes(space)
        brief = Brief(
            folder=space.folder,
            rounds=rounds,
            of=context.build.plan.max_rounds,
            diff=changes.diff,
            allowed=context.params.get("allowed", ()),
            commands=context.params.get("commands", ()),
            wish=str(context.params.get("prompt") or ""),
        )
        return await asyncio.to_thread(prompt, brief)

    def observe(self, context: StageContext) -> Observer:
        return Transcript()

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, Transcript)
        resolved = context.stage.resolved or {}
        space = await workspace.open_(Path(resolved["place"]))
        details = {"agent": resolved["agent"], "branch": resolved["branch"], **_cost(observer)}
        if space is None:
            return Verdict(result="fail", summary=f"{resolved['place']} is gone", details={**details, "reason": "agent"})
        changes = await workspace.changes(space, since=resolved["since"])
        wrong = _not_allowed(context, changes)
        if not await workspace.unchanged(Path(context.params["project"]), resolved["user_state"]):
            details["notes"] = [f"{context.params['project']} itself changed meanwhile: by a person, or by the agent"]
        if wrong:
            await workspace.restore(space, resolved["since"])
            summary = f"{resolved['agent']} changed what it may not: {', '.join(wrong[:5])}; its changes were taken back"
            return Verdict(result="fail", summary=summary[:SUMMARY_CHARS], details={**details, "reason": "outside"})
        if (bad := _bad_end(end, observer)) is not None and not changes.files:
            return bad.model_copy(update={"details": {**details, **bad.details}})
        if not changes.files:
            said = f", and said: {observer.last_words}" if observer.last_words else ""
            summary = f"{resolved['agent']} changed nothing{said}"
            return Verdict(result="fail", summary=summary[:SUMMARY_CHARS], details={**details, "reason": "no_change"})
        message = f"{context.spec.name}: round {context.stage.round} of build {context.build.id}"
        details |= {
            "commit_sha": await workspace.commit(space, message),
            "files_changed": [file.path for file in changes.files],
            "diff": changes.diff[:DIFF_CHARS],
        }
        return Verdict(result="pass", summary=_summary(resolved["agent"], changes), details=details)


class AgentWork(AgentFix):
    """Params as those of `agent.fix`; `prompt` says what is to be done."""

    async def _workspace(self, context: StageContext) -> Workspace:
        place = context.config.worktrees_dir / f"{context.store_id}-{context.build.id}"
        branch = str(context.params.get("branch") or f"bo/build-{context.build.id}")
        return await workspace.make(Path(context.params["project"]), place, branch)

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
    used = [Usage.model_validate(row.verdict.details["usage"]) for row in rows if _has_usage(row, name)]
    costs = [usage.cost_usd for usage in used if usage.cost_usd is not None]
    return Usage(
        turns=sum(usage.turns for usage in used),
        input_tokens=sum(usage.input_tokens for usage in used),
        output_tokens=sum(usage.output_tokens for usage in used),
        cost_usd=sum(costs) if costs else None,
    )


def _has_usage(row: Stage, name: str) -> bool:
    return row.stage == name and row.verdict is not None and "usage" in row.verdict.details


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


def _not_allowed(context: StageContext, changes: Changes) -> list[str]:
    wrong = workspace.outside(changes, context.params.get("allowed", ()), PROTECTED)
    return [*wrong, *(f"{path} (a test was removed)" for path in workspace.removed_tests(changes))]


def _bad_end(end: Exit, log: Transcript) -> Verdict | None:
    """Why an agent did not come to its own end; None: it did."""
    if end.reason is not ExitReason.EXIT:
        verdict = result_of(end)
        reason = {ExitReason.TIMEOUT: "budget"}.get(end.reason, end.reason.value)
        return verdict.model_copy(update={"details": {"reason": reason}})
    if log.result is None:
        return Verdict(
            result="fail", summary=f"the agent ended without a result: {log.last_words}", details={"reason": "agent"}
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


def _summary(agent: str, changes: Changes) -> str:
    files = ", ".join(f"{file.path} +{file.added} -{file.removed}" for file in changes.files[:4])
    more = f" and {len(changes.files) - 4} more" if len(changes.files) > 4 else ""
    return f"{agent} changed {files}{more}"[:SUMMARY_CHARS]


def _write_task(context: StageContext, task: Mapping[str, Any]) -> Path:
    """The task's file, which only this user can read, beside the worktrees."""
    stage = context.stage
    folder = context.config.worktrees_dir / "tasks"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{context.store_id}-{stage.build}-{stage.stage}-{stage.round}-{stage.attempt}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(task), encoding="utf-8")
    return path
