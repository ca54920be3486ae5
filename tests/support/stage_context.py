"""What a stage kind is given, where no worker is needed to ask it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from mcp_server.config import Server, load_config
from mcp_server.engine.stages.base import StageContext
from mcp_server.hosts.base import Host
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus
from mcp_server.secret_store import Secrets


async def _told(_: str) -> None:
    return


async def _held(_: str, __: str) -> None:
    return


async def _nothing(_: str) -> None:
    return


def stage_context(kind: str, params: Mapping[str, Any], *, timeout_s: float = 7200) -> StageContext:
    """Of an attempt at a stage `kind` with `params`, by the configuration of this test's home."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    spec = StageSpec(name=kind, kind=kind, params=params, timeout_s=timeout_s)
    build = Build(
        id=1, project_id="p", status=BuildStatus.RUNNING, created_at=now, task_id="t", name="n",
        plan=Plan(stages=(spec,)), args_key="",
    )  # fmt: skip
    stage = Stage(build=1, stage=kind, kind=kind, host="local", status=StageStatus.RUNNING)
    config = load_config()
    return StageContext(
        build, spec, stage, config, {}, _told, cast(Host, None), Server(), Secrets(config, {}), "s", _held, _nothing
    )
