"""/healthz for those who watch the process, /metrics for Prometheus."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.requests import Request

from mcp_server import __version__
from mcp_server.build_statistics import Stats
from mcp_server.build_trends import Count, TrendPoint
from mcp_server.model import Project
from mcp_server.web.context import Service
from mcp_server.web.live import feed_of

if TYPE_CHECKING:
    from mcp_server.crew import WorkerView

router = APIRouter(tags=["operations"])
MOST_PROJECTS = 50
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
async def healthz(service: Service) -> dict[str, Any]:
    """200 while the store can be read; 503 where it cannot."""
    await service.last_event()
    return {"status": "ok", "version": __version__}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Service, request: Request) -> PlainTextResponse:
    """Counts of builds by status, durations, the last build of each project, hosts' slots, and the event feed.

    Of projects the 50 that were built last.
    """
    lines = list(_of_builds(await service.stats()))
    lines += _of_projects(await service.figures.newest(MOST_PROJECTS))
    hosts = [(_quoted(view.name), view) for view in await service.look_at_hosts(check=False)]
    lines += _told("host_slots", "Jobs that it runs at once.")
    lines += [f"build_orchestrator_host_slots{{host={host}}} {view.slots}" for host, view in hosts]
    lines += _told("host_slots_held", "Slots that a build holds.")
    lines += [f"build_orchestrator_host_slots_held{{host={host}}} {len(view.held)}" for host, view in hosts]
    lines += _of_workers((await service.crew()).workers)
    if (free := await asyncio.to_thread(_free_bytes, service.config.home)) is not None:
        lines += _told("home_free_bytes", "Left on the disk of the data folder.")
        lines.append(f"build_orchestrator_home_free_bytes {free}")
    lines += _told("last_event_id", "The newest event's id.", kind="counter")
    lines.append(f"build_orchestrator_last_event_id {feed_of(request).last}")
    return PlainTextResponse("\n".join(lines) + "\n", media_type=TEXT)


def _of_workers(found: "Sequence[WorkerView]") -> Iterator[str]:
    yield from _told("workers", "Workers by state; away: not heard of any more.")
    for state in ("serving", "leaving", "away"):
        yield f'build_orchestrator_workers{{state="{state}"}} {sum(one.state == state for one in found)}'
    yield from _told("worker_builds", "Open builds that a worker has.")
    for one in found:
        labels = f"worker={_quoted(one.name)},machine={_quoted(one.machine or '')}"
        yield f"build_orchestrator_worker_builds{{{labels}}} {one.builds}"


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _told(name: str, said: str, kind: str = "gauge") -> Iterator[str]:
    yield f"# HELP build_orchestrator_{name} {said}"
    yield f"# TYPE build_orchestrator_{name} {kind}"


def _of_builds(stats: Stats) -> Iterator[str]:
    yield from _told("builds", "Builds by status.")
    counts = {
        "success": stats.successful,
        "failed": stats.failed,
        "pending": stats.pending,
        "running": stats.running,
        "cancelled": stats.cancelled,
    }
    for status, count in counts.items():
        yield f'build_orchestrator_builds{{status="{status}"}} {count}'
    yield from _told("build_duration_seconds", "Of builds that succeeded.")
    quantiles = {"0.5": stats.p50_duration, "0.9": stats.p90_duration}
    for quantile, seconds in quantiles.items():
        if seconds is not None:
            yield f'build_orchestrator_build_duration_seconds{{quantile="{quantile}"}} {seconds:.3f}'


def _of_projects(newest: Sequence[tuple[Project, TrendPoint]]) -> Iterator[str]:
    """The figures of each project's last build that is over; those that it does not tell have no line."""
    for name, said, value in LAST:
        found = [(project, number) for project, point in newest if (number := value(point)) is not None]
        if found:
            yield from _told(f"last_build_{name}", said)
        for project, number in found:
            labels = f"project={_quoted(project.name)},project_id={_quoted(project.id)}"
            yield f"build_orchestrator_last_build_{name}{{{labels}}} {number:.10g}"


def _ratio(count: Count | None) -> float | None:
    return count.covered / count.total if count and count.total else None


Value = Callable[[TrendPoint], float | None]
LAST: Sequence[tuple[str, str, Value]] = (
    ("success", "1 where the last build that is over succeeded.", lambda one: float(one.status == "success")),
    ("number", "Its number.", lambda one: one.id),
    ("duration_seconds", "How long it took.", lambda one: one.duration),
    ("flash_bytes", "What its firmware takes of the flash.", lambda one: one.sizes and one.sizes.flash),
    ("ram_bytes", "What its firmware takes of the RAM.", lambda one: one.sizes and one.sizes.ram),
    (
        "app_partition_ratio",
        "How full its app partition is.",
        lambda one: one.sizes.app_percent / 100 if one.sizes and one.sizes.app_percent is not None else None,
    ),
    ("ninja_seconds", "From ninja's first step to its last.", lambda one: one.compile and one.compile.wall_s),
    ("compiled_files", "Sources that it compiled.", lambda one: one.compile and one.compile.objects),
    ("coverage_lines_ratio", "Lines that its tests ran.", lambda one: _ratio(one.coverage and one.coverage.lines)),
    (
        "coverage_branches_ratio",
        "Branches that its tests took.",
        lambda one: _ratio(one.coverage and one.coverage.branches),
    ),
    ("tests_passed", "Tests that passed.", lambda one: one.tests and one.tests.passed),
    ("tests_failed", "Tests that failed.", lambda one: one.tests and one.tests.failed),
)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
