"""`agent.fix` and `agent.work`: a code agent in a copy of the project, judged by what it left there.

`agent.fix` comes between two rounds and is told what failed; `agent.work` is told a person's or a bot's wish.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_server.agents import workspace
from mcp_server.agents.base import CANCEL_S, AgentRequest
from mcp_server.agents.changes import Changes, FileChange, changes, outside, removed_tests
from mcp_server.agents.commit import commit
from mcp_server.agents.continued import continue_from
from mcp_server.agents.registry import Registry
from mcp_server.agents.restore import KeptInputs, restore, sha256_of, take_hold
from mcp_server.agents.sentinel import sentinel, unchanged
from mcp_server.agents.task import AgentSettings, AgentTask
from mcp_server.agents.transcript import Transcript
from mcp_server.agents.workspace import Workspace
from mcp_server.engine.agent_past import left_of, rounds_of, session_of, trusted_commit
from mcp_server.engine.brief import Brief, prompt
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, result_of
from mcp_server.errors import BadInput, Conflict
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.environment import job_environment
from mcp_server.model import Stage, Verdict
from mcp_server.text import one_line

PROTECTED = (".git/**", "managed_components/**", ".build-orchestrator.yaml", ".woodpecker.yaml", ".github/**")
"""Never changed by an agent, whatever it was asked: what decides how its own work is judged."""

BUILD = "build"
DIFF_CHARS = 20_000  # of a round's diff in its verdict; the whole is a commit of the branch
SUMMARY_CHARS = 400
LINE_CHARS = 200  # of each line that the agent said last
DEFAULT_S = 1800.0  # of an agent without a limit
TASKS = "tasks"  # the folder beside the copies in which the tasks are, each until its job has ended


class AgentFix:
    """Params: `project`, `agent` (None: the default one), `allowed` (globs), `commands`, `prompt`, `budget`
    (`tokens`, `cost_usd`, `timeout_s` of the whole build), `branch`, `begin` (`place`, `commit`: go on from there)."""

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        registry = Registry(context.config.agents, context.environment)
        agent = await registry.usable(context.params.get("agent"))
        rows = await context.history.rows()
        settings, masked = registry.settings(agent.name), registry.masked(agent.name)
        left = bounds(context, left_of(context, rows), settings)
        space = await self._workspace(context)
        since = trusted_commit(rows) or await self._begun(context, space)
        await restore(space, since, context.environment)  # what an attempt that was cut off left half done
        closed = await _closed(context, space)
        await _kept(context, space, closed).keep(context.environment)
        await self._check(context, space)
        request = AgentRequest(
            prompt=await self._prompt(context, space),
            folder=str(space.folder),
            commands=tuple(context.params.get("commands", ())),
            closed=closed,
            session=session_of(rows, context.spec.name),
            **left,
        ).checked()
        task = AgentTask(agent=settings, request=settings.completed(request), masked=masked)
        environment = job_environment({}, context.environment, ())
        environment |= registry.environment(agent.name, context.secrets.resolve)
        resolved = {
            "agent": agent.name,
            "place": str(space.place),
            "folder": str(space.folder),
            "branch": space.branch,
            "since": since,
            "project_state": await sentinel(space.project, context.environment),
            "left_out": [_shown(sentence) for sentence in space.left_out],
            "closed": list(closed),
        }
        return Prepared(
            argv=[sys.executable, "-P", "-m", "mcp_server.agents.run", str(await written(context, task))],
            cwd=str(space.folder),
            env=environment,
            resolved=resolved,
            note=f"{agent.name} works in {space.folder}, on branch {space.branch}",
        )

    async def _workspace(self, context: StageContext) -> Workspace:
        """The one of this build, whichever stage of it made it, or a new one on a branch that nobody has."""
        place = context.config.worktrees_dir / f"{context.store_id}-{context.build.id}"
        project = Path(context.params["project"])
        if (there := await workspace.open_(place)) is not None:
            return there
        wanted = str(context.params.get("branch") or self._branch(context))
        rows = [*await context.history.retried(), *await context.history.rows()]
        inputs = (*workspace.INPUTS, *(found[0] for row in rows if (found := _sdkconfig(row, project))))
        try:
            return await workspace.make(project, place, wanted, inputs=inputs, environment=context.environment)
        except Conflict:
            if context.params.get("branch"):
                raise
            # Another home counts its builds from 1, too.
            other = f"{wanted}-{context.store_id}"
            return await workspace.make(project, place, other, inputs=inputs, environment=context.environment)

    async def _begun(self, context: StageContext, space: Workspace) -> str:
        """The commit that nobody has worked on yet: the project as it was, or what an earlier build had made of it."""
        if (begin := context.params.get("begin")) is None:
            return space.base
        message = f"What build {context.build.retry_of} had made"
        return await continue_from(space, Path(begin["place"]), begin["commit"], message, context.environment)

    def _branch(self, context: StageContext) -> str:
        build = context.build
        return f"bo/fix-{build.retry_of}-{build.id}" if build.plan.fix_first else f"bo/fix-{build.id}"

    async def _check(self, context: StageContext, space: Workspace) -> None:
        """Conflict: the copy is configured otherwise than the build that failed, so that mending it proves nothing."""
        rounds = await rounds_of(context)
        for row in rounds[-1].rows if rounds else ():
            found = _sdkconfig(row, Path(context.params["project"]), space.folder)
            if found is not None and await sha256_of(space.folder / found[0]) != found[1]:
                raise Conflict(f"{found[0]} has changed since build {row.build} failed: build again, and mend that")

    async def _prompt(self, context: StageContext, space: Workspace) -> str:
        rounds = await rounds_of(context)
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
        await asyncio.to_thread(task_file(context).unlink, missing_ok=True)  # a prompt may hold anything
        resolved = context.stage.resolved or {}
        space = await workspace.open_(Path(resolved["place"]))
        details: dict[str, Any] = {"agent": resolved["agent"], "branch": resolved["branch"], **cost(observer)}
        if space is None:
            return _failed(f"{resolved['place']} is gone", "agent", details)
        notes = await self._notes(context, space)
        bad = bad_end(end, observer)
        found = await changes(space, resolved["since"], context.environment)
        if bad is not None and found.files:
            notes.append(f"{resolved['agent']} did not come to its end: {bad.summary}")
        details |= {"notes": notes} if notes else {}
        if bad is not None and end.reason in (ExitReason.CANCELLED, ExitReason.LOST):
            return _with(bad, details)  # half a change is none: the next attempt begins where this one did
        if not found.files:
            said = f", and said: {_last_words(observer)}" if _last_words(observer) else ""
            sentence = f"{resolved['agent']} changed nothing{said}"
            details["last_lines"] = _last_lines(observer, bad)
            return _with(bad, details) if bad else _failed(sentence, "no_change", details)
        if wrong := await _not_allowed(context, space, found):
            await restore(space, resolved["since"], context.environment)
            told = "; ".join(map(_shown, wrong[:5]))
            sentence = f"{resolved['agent']} changed what it may not, so all was taken back: {told}"
            details["last_lines"] = []  # the sentence says it all
            return _failed(sentence, "outside", details)
        details |= {"files_changed": [_shown(file.path) for file in found.files], "diff": found.diff[:DIFF_CHARS]}
        details["commit_sha"] = await self._committed(context, space)
        return Verdict(result="pass", summary=_summary(resolved["agent"], found), details=details)

    async def _notes(self, context: StageContext, space: Workspace) -> list[str]:
        """What a reader should know; what Git ignores is put back."""
        resolved = context.stage.resolved or {}
        notes = [_shown(sentence) for sentence in resolved.get("left_out", ())]
        if not await unchanged(space.project, resolved["project_state"], context.environment):
            notes.append(f"{space.project} itself changed meanwhile, by a person or by the agent")
        kept = _kept(context, space, resolved.get("closed", ()))
        notes += [f"{name} was changed, so it was removed: the next round builds anew" for name in await kept.cleared()]
        back, gone = await kept.put_back(context.environment)
        notes += [f"{name} was put back: Git ignores it, so a change of it is in no commit" for name in back]
        return notes + ([f"{_listed(gone)} taken away: Git ignores that, and it would be in no commit"] if gone else [])

    async def _committed(self, context: StageContext, space: Workspace) -> str | None:
        message = f"{context.spec.name}: round {context.stage.round} of build {context.build.id}"
        await take_hold(space, (context.stage.resolved or {})["since"], context.environment)
        # None: a worker that died here had committed it, or the agent has.
        sha = await commit(space, message, environment=context.environment)
        return sha or await (await space.git(context.environment)).head()


class AgentWork(AgentFix):
    """Params as those of `agent.fix`; `prompt` says what is to be done."""

    def _branch(self, context: StageContext) -> str:
        return f"bo/build-{context.build.id}"

    async def _check(self, context: StageContext, space: Workspace) -> None:
        pass

    async def _prompt(self, context: StageContext, space: Workspace) -> str:
        return WORK.format(folder=space.folder, wish=context.params["prompt"])


WORK = """\
You work alone, in {folder}: edit files there and nowhere else. When you are done, stop: the project is built and tested
then, and if it fails you are told of what. Nothing that you say counts, only the files you leave.

# What is to be done

{wish}"""


async def _closed(context: StageContext, space: Workspace) -> tuple[str, ...]:
    """Where the plan's stages build, below the project's folder; `build` by habit, unless files in it are committed."""
    project = Path(context.params["project"])
    told = [Path(str(one.params["build_dir"])) for one in context.build.plan.stages if one.params.get("build_dir")]
    found = {str(place.relative_to(project)) for place in told if place.is_relative_to(project) and place != project}
    git = await space.git(context.environment)
    if not await git.text("ls-files", "--", str(space.folder / BUILD), check=False):
        found.add(BUILD)
    return tuple(sorted(found))


# -- what it left ----------------------------------------------------------------------------------------------------


def bounds(context: StageContext, left: Mapping[str, Any], agent: AgentSettings) -> dict[str, Any]:
    """Budgets and time of a task: it ends by itself, with a result, before the job's limit ends it without one.

    The least of what the build has left and of what config.yaml allows a session of this agent.
    """
    limit = context.spec.timeout_s or DEFAULT_S
    own = min(max(limit / 2, limit - 2 * CANCEL_S), agent.timeout_s or limit)
    bounds = {**left, "timeout_s": max(1.0, min(float(left.get("timeout_s", own)), own))}
    for name in ("max_tokens", "max_cost_usd"):
        if name in left and (most := getattr(agent, name)) is not None:
            bounds[name] = min(left[name], most)
    return bounds


def _kept(context: StageContext, space: Workspace, closed: Sequence[str] = ()) -> KeptInputs:
    built = () if context.params.get("commands") else closed  # a command of the task may build
    return KeptInputs(space, f"{context.spec.name}-{context.stage.round}", closed, built)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(map(_shown, names[:5]))}{more}{' were' if len(names) > 1 else ' was'}"


def _sdkconfig(row: Stage, *roots: Path) -> tuple[str, str] | None:
    """Its name below one of `roots` and its hash, as a build of ESP-IDF left it; None: the stage tells of none."""
    told = row.verdict.details.get("sdkconfig_sha256") if row.verdict else None
    memo: Mapping[str, Any] = (row.resolved or {}).get("memo") or {}
    place = Path(str(memo.get("sdkconfig") or "/"))
    below = next((place.relative_to(root) for root in roots if place.is_relative_to(root)), None)
    return (str(below), str(told)) if told and below else None


async def _not_allowed(context: StageContext, space: Workspace, found: Changes) -> list[str]:
    wrong = [*outside(found, context.params.get("allowed", ()), PROTECTED), *removed_tests(found)]
    if await _kept(context, space).components_changed():
        wrong.append("managed_components: it is the component manager's, and Git ignores it")
    return wrong


def _failed(sentence: str, reason: str, details: Mapping[str, Any]) -> Verdict:
    return Verdict(result="fail", summary=sentence[:SUMMARY_CHARS], details={**details, "reason": reason})


def _with(verdict: Verdict, details: Mapping[str, Any]) -> Verdict:
    return verdict.model_copy(update={"details": {**details, **verdict.details}})


def _last_words(log: Transcript) -> str:
    said = [line[2:].strip() for line in log.last_lines if line.startswith("| ")]
    return next((line for line in reversed(said) if line), "")[:200]


def _last_lines(log: Transcript, bad: Verdict | None) -> list[str]:
    """What the agent's log ends with: without what the machine reads there, and what the verdict says already."""
    told = bad.summary if bad else ""
    return [line[:LINE_CHARS] for line in log.last_lines if line[2:] != told]


def bad_end(end: Exit, log: Transcript) -> Verdict | None:
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


def cost(log: Transcript) -> dict[str, Any]:
    usage = log.result.usage if log.result else log.usage
    found: dict[str, Any] = {"usage": usage.model_dump(mode="json", exclude_none=True)}
    if log.session:
        found["session"] = log.session
    if log.result and log.result.denied:
        found["denied"] = log.result.denied
    return found


def _shown(text: str) -> str:
    """A file's name, or a sentence with some, in one line of text that can be stored: what is no UTF-8 is replaced."""
    return one_line(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), SUMMARY_CHARS)


def _told(file: FileChange) -> str:
    lines = f" +{file.added} -{file.removed}" if file.added is not None else ""
    return f"{_shown(file.path)}{lines if file.status != 'deleted' else ' (deleted)'}"


def _summary(agent: str, changes: Changes) -> str:
    files = ", ".join(_told(file) for file in changes.files[:4])
    more = f" and {len(changes.files) - 4} more" if len(changes.files) > 4 else ""
    return f"{agent} changed {files}{more}"[:SUMMARY_CHARS]


def task_name(store: str, build: int, rest: str = "*") -> str:
    """The name of the file of a task; as it is, the pattern of all of one build."""
    return f"{store}-{build}-{rest}.json"


async def written(context: StageContext, task: AgentTask) -> Path:
    """The task in its file."""
    path = task_file(context)
    await asyncio.to_thread(_write, path, task.model_dump_json())
    return path


def task_file(context: StageContext) -> Path:
    """Where the task of an attempt is, beside the workspaces."""
    stage = context.stage
    name = task_name(context.store_id, stage.build, f"{stage.stage}-{stage.round}-{stage.attempt}")
    return context.config.worktrees_dir / TASKS / name


def _write(path: Path, content: str) -> None:
    """In a file which only this user can read."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
