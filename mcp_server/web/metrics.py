"""/healthz for those who watch the process, /metrics for Prometheus."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.requests import Request

from mcp_server import __version__
from mcp_server.build_statistics import Stats
from mcp_server.web.context import Service
from mcp_server.web.live import feed_of

router = APIRouter(tags=["operations"])
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
async def healthz(service: Service) -> dict[str, Any]:
    """200 while the store can be read; 503 where it cannot."""
    await service.last_event()
    return {"status": "ok", "version": __version__}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Service, request: Request) -> PlainTextResponse:
    """Counts of builds by status, durations, hosts' slots, and the event feed."""
    lines = list(_of_builds(await service.stats()))
    for view in await service.look_at_hosts(check=False):
        host = _quoted(view.name)
        lines += [f"build_orchestrator_host_slots{{host={host}}} {view.slots}"]
        lines += [f"build_orchestrator_host_slots_held{{host={host}}} {len(view.held)}"]
    lines.append(f"build_orchestrator_last_event_id {feed_of(request).last}")
    return PlainTextResponse("\n".join(lines) + "\n", media_type=TEXT)


def _of_builds(stats: Stats) -> Iterator[str]:
    yield "# HELP build_orchestrator_builds Builds by status."
    yield "# TYPE build_orchestrator_builds gauge"
    counts = {
        "success": stats.successful,
        "failed": stats.failed,
        "pending": stats.pending,
        "running": stats.running,
        "cancelled": stats.cancelled,
    }
    for status, count in counts.items():
        yield f'build_orchestrator_builds{{status="{status}"}} {count}'
    yield "# HELP build_orchestrator_build_duration_seconds Of builds that succeeded."
    yield "# TYPE build_orchestrator_build_duration_seconds gauge"
    quantiles = {"0.5": stats.p50_duration, "0.9": stats.p90_duration}
    for quantile, seconds in quantiles.items():
        if seconds is not None:
            yield f'build_orchestrator_build_duration_seconds{{quantile="{quantile}"}} {seconds:.3f}'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
