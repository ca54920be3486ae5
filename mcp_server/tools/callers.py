"""Callers over a network: the tools they may use, and the folders they may name."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import references
from mcp_server.errors import BadInput
from mcp_server.scopes import Scope, need

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

NEEDS: Mapping[str, Scope] = {
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


def check(tool: str) -> None:
    """Forbidden: whoever calls may not use this tool. What an order's words and plan need is asked where it is made."""
    need(NEEDS.get(tool, "build"))


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
