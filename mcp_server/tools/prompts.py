"""Prompts for people to pick: the developer's instructions, put in front of one failed build."""

import asyncio
from pathlib import Path

from mcp.server.mcpserver import MCPServer, UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from mcp_server.errors import OrchestratorError
from mcp_server.tools.answers import Opener, orchestrator_of
from mcp_server.tools.arguments import Ctx

_PACKAGE = Path(__file__).parents[1]
ROLES = (_PACKAGE / "_data" / "prompts", _PACKAGE.parent / "prompts")
"""In a wheel, and in the source tree: the same files are the plugin's subagents."""


def register(server: MCPServer[Opener]) -> None:
    """Add the prompt `fix_build(build)`."""
    server.prompt(name="fix_build", description="Mend a failed build, proved by building again.")(fix_build)


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
