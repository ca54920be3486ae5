"""`qa.remarks`: what a code agent adds to a quality check. It decides nothing: its build passes or fails without it."""

import asyncio
import contextlib
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mcp_server.agents import workspace
from mcp_server.agents.base import AgentRequest
from mcp_server.agents.registry import Registry
from mcp_server.agents.task import AgentTask
from mcp_server.agents.transcript import Transcript
from mcp_server.agents.workspace import Workspace
from mcp_server.engine.quality import Issue, last_attempts
from mcp_server.engine.stages.agent import bad_end, bounds, cost, task_file, written
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, project_path
from mcp_server.hosts.base import Exit
from mcp_server.idf.environment import job_environment
from mcp_server.model import Verdict
from mcp_server.text import clip, one_line

FILE = "REMARKS.json"
MOST = 20
MAX_BYTES = 100_000
FOUND_BYTES = 8_000

TASK = """\
You review a project in {folder}, a copy that nobody builds and that is deleted afterwards. It was built and tested, and
what follows was found by programs. Read the sources and find what they could not: mistakes that will show later.
Change nothing. Write what you found to {folder}/{file}, as JSON, the worst first, at most {most}:
[{{"file": "main/app.c", "line": 41, "message": "one sentence: what is wrong, and what would be right"}}]
Write [] there if there is nothing. Nothing else that you say or write is read.

# What was found

{found}"""


class QaRemarks:
    """Params: `project`, `agent` (None: the default one), `of`: the quality check that it adds to.

    Its verdict's `details["issues"]` are warnings `by` the agent. It works in a copy, which is deleted.
    """

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        registry = Registry(context.config.agents, context.environment)
        agent = await registry.usable(context.params.get("agent"))
        project, stage = project_path(context), context.stage
        name = f"{context.store_id}-{context.build.id}-{stage.stage}-{stage.round}-{stage.attempt}"
        place = context.config.worktrees_dir / name
        branch = f"bo/qa-{name}"
        space = await workspace.make(project, place, branch, environment=context.environment)
        settings = registry.settings(agent.name)
        request = AgentRequest(
            prompt=TASK.format(folder=space.folder, file=FILE, most=MOST, found=await _found(context)),
            folder=str(space.folder),
            **bounds(context, {}, settings),
        ).checked()
        masked = registry.masked(agent.name)
        task = AgentTask(agent=settings, request=settings.completed(request), masked=masked)
        environment = job_environment({}, context.environment, ())
        return Prepared(
            argv=[sys.executable, "-P", "-m", "mcp_server.agents.run", str(await written(context, task))],
            cwd=str(space.folder),
            env=environment | dict(registry.environment(agent.name, context.secrets.resolve)),
            resolved={"agent": agent.name, "copy": str(space.place)},
            note=f"{agent.name} reads a copy in {space.folder}",
        )

    def observe(self, context: StageContext) -> Observer:
        return Transcript()

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, Transcript)
        observer.close()
        await asyncio.to_thread(task_file(context).unlink, missing_ok=True)
        resolved = context.stage.resolved or {}
        agent, details = str(resolved["agent"]), cost(observer)
        space = await workspace.open_(Path(str(resolved["copy"])))
        given = await asyncio.to_thread(_read, space, context.spec.name) if space else None
        if space is not None:
            await workspace.remove(space, keep_branch=False, environment=context.environment)
        if given is None:
            bad = bad_end(end, observer)
            if bad is not None:
                return bad.model_copy(update={"details": {**details, **bad.details}})
            return Verdict(result="fail", summary=f"{agent} left no list of remarks in {FILE}", details=details)
        issues = [issue.model_dump(mode="json", exclude_defaults=True) for issue in given]
        return Verdict(result="pass", summary=_summary(agent, given), details={**details, "issues": issues})


async def _found(context: StageContext) -> str:
    """What the check itself and its stages came to."""
    lines: list[str] = []
    for row in last_attempts(await context.history.rows(), context.stage.round):
        if row.stage == context.spec.name or row.status.is_open:
            continue
        lines.append(
            f"{row.stage} ({row.kind}): {row.status}. {one_line(row.verdict.summary if row.verdict else '', 300)}"
        )
        if row.stage == context.params.get("of") and row.verdict:
            issues = cast("Sequence[Mapping[str, Any]]", row.verdict.details.get("issues", ()))
            lines += [f"  {one_line(json.dumps(issue, ensure_ascii=False), 600)}" for issue in issues]
    return clip("\n".join(lines), FOUND_BYTES) or "nothing"


def _read(space: Workspace, stage: str) -> Sequence[Issue] | None:
    """The remarks in the agent's file; None: there is no list there. What is no remark is left out."""
    try:
        # A link or a pipe of that name would have us read, or wait for, what is none of the agent's.
        descriptor = os.open(space.folder / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            given: object = json.loads(file.read(MAX_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(given, list):
        return None
    made = (_remark(space.folder, one, stage) for one in cast("list[object]", given))
    return [issue for issue in made if issue is not None][:MOST]


def _remark(folder: Path, one: object, stage: str) -> Issue | None:
    if not isinstance(one, dict):
        return None
    said = cast("dict[str, object]", one)
    message, name, line = said.get("message"), said.get("file"), said.get("line")
    if not isinstance(message, str) or not message.strip():
        return None
    place = name if isinstance(name, str) and _is_inside(folder, name) else None
    return Issue(
        severity="warning",
        kind="remark",
        stage=stage,
        message=one_line(message, 500),
        file=place,
        line=line if place and isinstance(line, int) and line > 0 else None,
        by="agent",
    )


def _is_inside(folder: Path, name: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        real = (folder / name).resolve()
        return real.is_relative_to(folder.resolve()) and real.is_file()
    return False


def _summary(agent: str, issues: Sequence[Issue]) -> str:
    if not issues:
        return f"{agent} has no remarks"
    first = issues[0]
    place = f"{first.file}:{first.line or 1} " if first.file else ""
    return f"{len(issues)} remark{'s' * (len(issues) > 1)} by {agent}: {place}{first.message}"[:300]
