"""An agent without a model, for the program of an agent's job: its prompt is a JSON list of what it does.

`python -P -m tests.support.scripted_agent TASK.json` is the real program with this agent in it.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_server.agents import run
from mcp_server.agents.base import AgentRequest, AgentResult, Availability, Capabilities, Tell, Update, Usage
from mcp_server.agents.task import AgentSettings
from mcp_server.errors import EnvironmentMissing

SLEEPS = "the scripted agent sleeps"


class ScriptedAgent:
    """Does what the prompt says: [what, argument] each."""

    wants: tuple[str, ...] = ()
    capabilities = Capabilities()

    def __init__(self, settings: AgentSettings) -> None:
        self.name = settings.name

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        return Availability("SCRIPTED" in environment, "set SCRIPTED")

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        children: list[asyncio.subprocess.Process] = []
        try:
            for what, argument in json.loads(request.prompt):
                await self._do(what, argument, request, tell, children)
        finally:
            for child in children:
                child.kill()
                await child.wait()
        return AgentResult(stopped="end", text="done")

    async def _do(
        self, what: str, given: Any, request: AgentRequest, tell: Tell, children: list[asyncio.subprocess.Process]
    ) -> None:
        match what:
            case "say" | "tool" | "denied" | "note" | "session":
                tell(Update(kind="text" if what == "say" else what, text=given))
            case "say often":
                for _ in range(given):
                    tell(Update(kind="text", text="x" * 1900))
            case "usage":
                tell(Update(kind="usage", usage=Usage.model_validate(given)))
                await asyncio.sleep(0)
            case "sleep":
                tell(Update(kind="note", text=SLEEPS))
                await asyncio.sleep(given)
            case "sleep stubbornly":
                tell(Update(kind="note", text=SLEEPS))
                while True:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(given)
            case "child":
                child = await asyncio.create_subprocess_exec("sleep", str(given))
                children.append(child)
                tell(Update(kind="note", text=f"child {child.pid}"))
            case "print":
                sys.stdout.write(given)
                sys.stdout.flush()
                await (await asyncio.create_subprocess_exec("printf", "%s", given)).wait()
                os.write(2, given.encode())
            case "write":
                (Path(request.folder) / "written").write_text(given)
            case _:
                errors: list[BaseException] = [ValueError(given), SystemExit(given), ImportError(given, name="sdk")]
                errors += [EnvironmentMissing(given), ExceptionGroup("g", [OSError(given)])]
                raise next(error for error in errors if type(error).__name__ == what)


if __name__ == "__main__":
    os._exit(run.main(sys.argv[1:], ScriptedAgent))
