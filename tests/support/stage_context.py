"""What a stage kind is given, where no worker is needed to ask it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from mcp_server.config import Server, load_config
from mcp_server.engine.stages.base import StageContext
from mcp_server.hosts.base import Host
from mcp_server.model import Build, BuildStatus, Plan, Stage, StageSpec, StageStatus
from mcp_server.secret_store import Secrets


class NoHistory:
    """Nothing was recorded before."""

    def __init__(self, *rows: Stage, good: Sequence[Stage] = ()) -> None:
        self._rows, self._good = rows, good

    async def rows(self) -> Sequence[Stage]:
        return self._rows

    async def retried(self) -> Sequence[Stage]:
        return ()

    async def last_good(self) -> Sequence[Stage]:
        return self._good


async def _told(_: str) -> None:
    return


async def _held(_: str, __: str) -> None:
    return


async def _nothing(_: str) -> None:
    return


def stage_context(
    kind: str,
    params: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    build: int = 7,
    *,
    timeout_s: float = 7200,
    history: NoHistory | None = None,
) -> StageContext:
    """Of an attempt at the only stage of a build, by the configuration of this test's home."""
    spec = StageSpec(name="it", kind=kind, params=params, timeout_s=timeout_s)
    config = load_config()
    return StageContext(
        build=Build(
            id=build,
            project_id="p",
            status=BuildStatus.RUNNING,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            task_id="t",
            name="n",
            plan=Plan(stages=(spec,)),
            args_key="k",
        ),
        spec=spec,
        stage=Stage(build=build, stage="it", kind=kind, host="local", status=StageStatus.RUNNING),
        config=config,
        environment=environment or {},
        tell=_told,
        host=cast("Host", None),
        server=Server(),
        secrets=Secrets(config, {}),
        store_id="abcd1234",
        hold=_held,
        built=_nothing,
        history=history or NoHistory(),
    )
