"""Prompts for people to pick: the roles, a failed build for the developer, the workflow, the way to a pipeline."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mcp.server.mcpserver import MCPServer, UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from mcp_server.errors import OrchestratorError
from mcp_server.tools.answers import Opener, orchestrator_of, project_path
from mcp_server.tools.arguments import Ctx

MOST_GOAL = 4000  # characters
_PACKAGE = Path(__file__).parents[1]
ROLES = (_PACKAGE / "_data" / "prompts", _PACKAGE.parent / "prompts")
"""In a wheel, and in the source tree: the same files are the plugin's subagents."""


GUIDES = (_PACKAGE / "_data" / "skills", _PACKAGE.parent / "skills")


NAMES = {
    "project_manager": "Can it be built here, for what, on what?",
    "builder": "Build, and report the verdict.",
    "tester": "Flash or emulate what was built.",
    "doctor": "Is the machine to blame?",
    "qa": "Judge a round: issues with file and line.",
    "developer": "Mend what failed, proved by a build.",
}
"""The roles, each a prompt, with what a list of prompts says of it."""


def register(server: MCPServer[Opener]) -> None:
    """Add the prompts `fix_build(build)`, `run_workflow(project)`, `write_pipeline(goal)` and one a role."""
    server.prompt(name="fix_build", description="Mend a failed build, proved by building again.")(fix_build)
    server.prompt(name="write_pipeline", description="Write a pipeline for a goal, shown by a dry run.")(write_pipeline)
    server.prompt(name="run_workflow", description="Build, test and mend a project in rounds.")(run_workflow)
    for name, description in NAMES.items():
        server.prompt(name=name, description=description)(_role(name))


def _role(name: str) -> Callable[[str], Awaitable[UserMessage]]:
    async def role(task: str = "") -> UserMessage:
        text = await asyncio.to_thread(role_text, name)
        return UserMessage(f"{text}\n\n# The task\n\n{task[:MOST_GOAL]}\n" if task else f"{text}\n")

    return role


async def run_workflow(ctx: Ctx, project: str = ".") -> UserMessage:
    from mcp_server import report_tables  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    try:
        checks = await orchestrator.doctor(await project_path(orchestrator, project or ".", None))
    except OrchestratorError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error
    guide = await asyncio.to_thread(_guide, "workflow")
    here = report_tables.doctor_report(checks)
    return UserMessage(f"{guide}\n\n# The project\n\n{project[:MOST_GOAL]}\n\n# What is here\n\n{here}\n")


async def fix_build(build: str, ctx: Ctx) -> UserMessage:
    from mcp_server import report  # noqa: PLC0415  (first use: the server starts without it)

    try:
        view = await (await orchestrator_of(ctx)).get(build)
    except OrchestratorError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error
    role = await asyncio.to_thread(role_text, "developer")
    verdict = report.build_report(view, limit_bytes=report.DETAIL_BYTES)
    return UserMessage(f"{role}\n\n# This build\n\nProject: {view.project.path}\n\n{verdict}\n")


def role_text(name: str) -> str:
    """A role's instructions without their front matter, which is for the plugin's host."""
    path = next(folder for folder in ROLES if (folder / f"{name}.md").is_file()) / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    return text.split("\n---\n", 1)[-1].strip() if text.startswith("---\n") else text.strip()


async def write_pipeline(goal: str, ctx: Ctx) -> UserMessage:
    from mcp_server import report_hosts  # noqa: PLC0415  (first use: the server starts without it)

    orchestrator = await orchestrator_of(ctx)
    views = await orchestrator.look_at_hosts(check=False)
    guide = await asyncio.to_thread(_guide, "pipelines")
    hosts = report_hosts.host_list(views, orchestrator.config.file)
    closing = "Write the YAML, show it by pipeline_run(yaml=…, dry_run=true), and run it only when I say so."
    return UserMessage(f"{guide}\n\n# The hosts\n\n{hosts}\n\n# The goal\n\n{goal[:MOST_GOAL]}\n\n{closing}\n")


def _guide(name: str) -> str:
    part = Path("build-orchestrator", "references", f"{name}.md")
    path = next(folder for folder in GUIDES if (folder / part).is_file()) / part
    return path.read_text(encoding="utf-8").strip()
