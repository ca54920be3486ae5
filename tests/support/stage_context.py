"""The context of a stage that needs no job, in a test."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from mcp_server.config import load_config
from mcp_server.engine.stages.base import StageContext
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus


def stage_context(kind: str, params: Mapping[str, Any], environment: Mapping[str, str], build: int = 7) -> StageContext:
    """Of the only stage of a build; what only jobs need is absent."""
    spec = StageSpec(name="it", kind=kind, params=params)
    now = datetime(2026, 1, 1, tzinfo=UTC)

    async def tell(sentence: str) -> None:
        del sentence

    absent = cast(Any, None)
    return StageContext(
        build=Build(
            id=build,
            project_id="p",
            status=BuildStatus.RUNNING,
            created_at=now,
            task_id="t",
            name="n",
            plan=Plan(stages=(spec,)),
            args_key="k",
        ),
        spec=spec,
        stage=Stage(build=build, stage="it", kind=kind, host="local", status=StageStatus.RUNNING),
        config=load_config(),
        environment=environment,
        tell=tell,
        host=absent,
        server=absent,
        secrets=absent,
        store_id="abcd1234",
        hold=absent,
        built=absent,
    )
