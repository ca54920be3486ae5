"""Who calls over a network: what he may do, and which folders he may name. Over stdio it is this machine's user."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server import references
from mcp_server.errors import BadInput, Forbidden

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

SCOPES = ("read", "build", "flash", "admin")
"""Each includes those before it."""

NEEDS: Mapping[str, str] = {
    "doctor": "read",
    "build_wait": "read",
    "build_get": "read",
    "build_log": "read",
    "build_list": "read",
    "build_stats": "read",
    "hosts": "read",
    "projects": "read",
    "idf_flash": "flash",
    "serial_monitor": "flash",
    "serial_send": "flash",
    "remote_build": "admin",
    "pipeline_run": "admin",
    "project_import": "admin",
}
"""The scope that a tool needs; those that run whatever the caller wrote need all. Others: build."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request over HTTP, as the service's guard knows him."""

    name: str
    scope: str

    def need(self, wanted: str) -> None:
        """Forbidden: his token may not do what needs `wanted`."""
        if SCOPES.index(self.scope) < SCOPES.index(wanted):
            raise Forbidden(f"token {self.name} may {self.scope}: this needs {wanted}")

    def check(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """Forbidden: he may not call this tool with these arguments."""
        wanted = NEEDS.get(tool, "build")
        if arguments.get("flash"):
            wanted = "flash"
        if arguments.get("auto_push"):
            wanted = "admin"
        self.need(wanted)


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


async def named_project(orchestrator: "Orchestrator", text: str) -> str:
    """The folder that a caller from elsewhere means: a known project's, or one below `security.project_roots`."""
    await orchestrator.refresh()
    roots = orchestrator.config.security.project_roots
    if "/" in text and "\0" not in text:
        path = await asyncio.to_thread(references.real_path, text)
        for root in roots:
            if Path(path).is_relative_to(await asyncio.to_thread(references.real_path, str(root))):
                return path
        raise BadInput("project", f"{text[:100]!r} is not below security.project_roots: give a project's id or name")
    if text in ("", "."):
        raise BadInput("project", "a service has no folder of its caller's: give a project's id or name")
    return (await orchestrator.find_project(text)).path
