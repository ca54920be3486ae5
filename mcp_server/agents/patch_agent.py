"""The agent that needs no model: it applies diffs that it was given, one a task. Named `patch:FILE` or `patch:FOLDER`.

Of a folder, the first diff in the order of names is applied that changes something and fits. So a scripted mend goes
the same way, and is judged the same way, as that of a model.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcp_server.agents.base import AgentRequest, AgentResult, Availability, Capabilities, Tell, Update
from mcp_server.agents.patch import Change, apply
from mcp_server.agents.task import AgentSettings
from mcp_server.agents.unified_diff import DiffRefused

MAX_DIFF_BYTES = 10_000_000
SUFFIXES = (".diff", ".patch")


class PatchAgent:
    """`settings.patch` is the diff, or a folder of them."""

    wants: tuple[str, ...] = ()
    capabilities = Capabilities()

    def __init__(self, settings: AgentSettings) -> None:
        self.name, self._place = settings.name, Path(settings.patch or "")

    async def availability(self, environment: Mapping[str, str]) -> Availability:
        """Whether there is a diff."""
        del environment
        found = await asyncio.to_thread(self._diffs)
        return Availability(bool(found), f"{len(found)} diffs" if found else f"{self._place}: no diff is there")

    async def run(self, request: AgentRequest, environment: Mapping[str, str], tell: Tell) -> AgentResult:
        """Apply one diff, all of it or nothing."""
        del environment
        refused = f"{self._place}: no diff is there"
        for diff in await asyncio.to_thread(self._diffs):
            try:
                changes = await asyncio.to_thread(self._apply, diff, Path(request.folder))
            except (DiffRefused, OSError) as error:
                refused = f"{diff.name}: {error}"
                tell(Update(kind="note", text=refused))
                continue
            if any(not change.done for change in changes):
                for change in changes:
                    tell(Update(kind="tool", text=f"{change.path}: {change.summary}"))
                return AgentResult(stopped="end", text=f"applied {diff.name}")
            refused = "every change was there already"
        return AgentResult(stopped="error", text=refused)

    def _apply(self, diff: Path, folder: Path) -> Sequence[Change]:
        with diff.open("rb") as file:
            content = file.read(MAX_DIFF_BYTES + 1)
        if len(content) > MAX_DIFF_BYTES:
            raise DiffRefused(f"has more than {MAX_DIFF_BYTES // 1_000_000} MB")
        return apply(content, folder)

    def _diffs(self) -> Sequence[Path]:
        if self._place.is_dir():
            return sorted(path for path in self._place.iterdir() if path.suffix in SUFFIXES and path.is_file())
        return [self._place] if self._place.is_file() else []
