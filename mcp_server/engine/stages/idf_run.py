"""`idf.run`: runs firmware built for the linux target as a process of this machine, until what it prints decides."""

import asyncio
import json
from pathlib import Path

import anyio

from mcp_server.engine.stages.base import Observer, Prepared, StageContext, older_firmware
from mcp_server.errors import BadInput, NotFound
from mcp_server.hosts.base import Exit
from mcp_server.idf.environment import job_environment
from mcp_server.idf.installation import read_text
from mcp_server.idf.products import MAX_JSON_BYTES
from mcp_server.idf.verdict import FirmwareLog, judge
from mcp_server.model import Verdict


class IdfRun:
    """Params: `project`, `build_dir`, `expect`, `fail_on`."""

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        build_dir = Path(context.params["build_dir"])
        self.observe(context)  # a bad pattern is told before anything runs
        description = build_dir / "project_description.json"
        try:
            facts = json.loads(await asyncio.to_thread(read_text, description, MAX_JSON_BYTES) or "")
            target, elf = str(facts["target"]), build_dir / str(facts["app_elf"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NotFound(f"{description} tells of no program to run: build first") from error
        if target != "linux":
            raise BadInput("target", f"{target} firmware does not run as a process; only linux does")
        if not await anyio.Path(elf).is_file():
            raise NotFound(f"{elf} is not there: build first")
        return Prepared(
            argv=[str(elf)], cwd=str(build_dir), env=job_environment({}, context.environment, context.config.env_pass)
        )

    def observe(self, context: StageContext) -> Observer:
        return FirmwareLog(context.params.get("expect", ()), context.params.get("fail_on", ()))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, FirmwareLog)
        return older_firmware(context, judge(observer, end, ran="program", watched_s=context.spec.timeout_s))
