"""Builds, stages and views as tests want them, and an orchestrator that has nothing behind it."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp_server import device_plans
from mcp_server.build_statistics import Day, FailurePattern, HostCount, StageTime, Stats
from mcp_server.build_trends import Trends
from mcp_server.config import Config, load_config
from mcp_server.crew import Crew
from mcp_server.device_plans import Firmware
from mcp_server.errors import Conflict, HostError, NotAgreed, NotFound
from mcp_server.expected import Place
from mcp_server.hosts.registry import Hosts
from mcp_server.logs import LogSlice
from mcp_server.machines import HostView
from mcp_server.model import (
    Build,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Plan,
    Progress,
    Project,
    Stage,
    StageSpec,
    StageStatus,
    Verdict,
)
from mcp_server.orchestrator import OnUpdate
from mcp_server.orders import Order, Orders
from mcp_server.pipelines.pipeline import Pipeline
from mcp_server.references import build_number
from mcp_server.views import BuildView, Started

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ERROR = Diagnostic(
    severity="error",
    kind="compile",
    message="implicit declaration of function 'valve_opne'",
    file="main/thermostat.c",
    line=8,
    column=9,
    source="        valve_opne();",
)


STATS = Stats(
    project_id=None,
    total_builds=12,
    successful=9,
    failed=2,
    pending=0,
    running=0,
    cancelled=1,
    success_rate=75.0,
    average_duration=61.5,
    p50_duration=60.0,
    p90_duration=90.0,
    trend=(Day(NOW.date(), 3, 2, 1),),
    failures=(FailurePattern("compile", "'LED' undeclared", 2, 41, "main/app.c:7"),),
    slowest=(StageTime("yocto-image", 2700.0, 5),),
    hosts=(HostCount("yocto-builder", 9, 1),),
)


class StoppedClock:
    """It is always NOW, and nobody waits."""

    def now(self) -> datetime:
        return NOW

    def agree(self, theirs: datetime, trip_s: float) -> None:
        pass

    def monotonic(self) -> float:
        return 0

    async def sleep(self, seconds: float) -> None:
        return None

    async def within(self, seconds: float, work: Any) -> Any:
        return await work


def spec(name: str, kind: str = "idf.build", *needs: str) -> StageSpec:
    return StageSpec(name=name, kind=kind, depends_on=needs)


def build(number: int = 42, status: str = "running", **values: Any) -> Build:
    over = status not in ("pending", "running")
    defaults: dict[str, Any] = {
        "id": number,
        "project_id": "p1",
        "status": BuildStatus(status),
        "started_at": None if status == "pending" else NOW - timedelta(seconds=200),
        "completed_at": NOW - timedelta(seconds=188) if over else None,
        "duration": 12.0 if over else None,
        "created_at": NOW - timedelta(seconds=201),
        "task_id": "00000000-0000-0000-0000-000000000042",
        "name": "idf_build",
        "plan": Plan(stages=(spec("build"), spec("run", "idf.run", "build"))),
        "args_key": "k",
        "reason": "exit" if over else None,
    }
    return Build(**{**defaults, **values})


def stage(name: str = "build", status: str = "running", **values: Any) -> Stage:
    over = status in ("success", "failed", "cancelled")
    defaults: dict[str, Any] = {
        "build": 42,
        "stage": name,
        "kind": "idf.build",
        "host": "local",
        "status": StageStatus(status),
        "started_at": None if status == "waiting" else NOW - timedelta(seconds=200),
        "ended_at": NOW - timedelta(seconds=188) if over else None,
        "job_id": None if status == "waiting" else f"x-42-{name}-1-1",
        "reason": "exit" if over else None,
    }
    return Stage(**{**defaults, **values})


def failed_stage(**values: Any) -> Stage:
    diagnosis = Diagnosis(errors=(ERROR,), error_count=1, warning_count=3, hints=("look at valve.h",))
    return stage(status="failed", exit_code=2, verdict=Verdict(result="fail", diagnosis=diagnosis), **values)


def half_done() -> Stage:
    return stage(progress=Progress(done=412, total=1043, message="Building C object esp-idf/main/app_main.c.obj"))


def view(of: Build | None = None, *stages: Stage, name: str = "greenhouse", **values: Any) -> BuildView:
    project = Project(id="p1", name=name, path="/src/greenhouse", target="linux", created_at=NOW)
    shown = of or build()
    return BuildView(build=shown, project=project, stages=stages, elapsed_s=12.0 if shown.duration else 200.0, **values)


class Changes:
    """Something has changed twice; then Ctrl-C."""

    def __init__(self) -> None:
        self.left = 2

    async def wait(self) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1


class FakeMachines:
    """The hosts of config.yaml, of which none is ever asked; `offered` are the keys that they offer in turn."""

    def __init__(self, config: Config) -> None:
        self.hosts = Hosts(config, {})
        self.offered: list[Any] = []
        self.trusted: list[Any] = []

    async def offered_key(self, name: str) -> Any:
        return self.offered[min(len(self.trusted), len(self.offered) - 1)]

    async def trust(self, key: Any) -> None:
        if key.state == "changed":
            raise HostError(key.server, f"{key.where} holds another key; {key.mend}")
        self.trusted.append(key)


class FakeOrchestrator:
    """Gives the views it was made with; `wait` shows them one after the other. `called` is what it was asked for."""

    def __init__(self, *views: BuildView) -> None:
        self.views = list(views)
        self.config = load_config()
        self.clock = StoppedClock()
        self.machines = FakeMachines(self.config)
        self.host_views: Sequence[HostView] = ()
        self.usual: Mapping[str, float] = {}
        self.environment: Mapping[str, str] = {}
        self.called: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.slice = LogSlice("build", "one\ntwo")
        self.log_pieces: Sequence[bytes] = (b"\x1b[31mred\x1b[0m \x1b[2Jline\n", b"two\r\n")
        self.checks: Sequence[Any] = ()
        self.counted = STATS
        self.trends: Trends | None = None

    def _note(self, *call: Any) -> None:
        self.called.append(call)
        if self.error is not None:
            raise self.error

    def _view(self, reference: int | str) -> BuildView:
        number = build_number(reference)
        for one in reversed(self.views):
            if number in (one.build.id, one.build.task_id):
                return one
        raise NotFound(f"there is no build {number}")

    async def aclose(self) -> None:
        pass

    async def poke(self) -> None:
        self._note("poke")

    @property
    def queue(self) -> "FakeOrchestrator":
        """Nothing waits."""
        return self

    async def of(self, _: Sequence[Build]) -> Mapping[int, Place]:
        return {}

    @property
    def devices(self) -> "FakeOrchestrator":
        """Boards and emulators: asked for here, too."""
        return self

    async def order_run(self, project: str, **options: Any) -> Order:
        self._note("order_run", project, options)
        firmware = Firmware(f"/p/{project}", f"/p/{project}/build", "esp32c3")
        spec = device_plans.flash(firmware, host="local", port="/dev/ttyUSB0")
        return Order(project, Plan(stages=(spec,)), "run", "p")

    async def start(self, order: Order, *, agreed: bool) -> Started:
        if not agreed and (question := Orders(self.config, self.machines.hosts, {}).question(order.plan)):
            raise NotAgreed(question)
        self._note("start", order.name, agreed)
        return Started(self.views[0].build, False)

    async def start_build(self, project: str, **options: Any) -> Started:
        self._note("start_build", project, options)
        return Started(self.views[0].build, False)

    async def read_pipeline(self, *, path: str, params: Mapping[str, str]) -> Pipeline:
        return Orders(self.config, self.machines.hosts, {}).read_pipeline(path, None, params)

    @property
    def projects(self) -> "FakeOrchestrator":
        return self

    async def usual_durations(self, folder: Path, name: str) -> Mapping[str, float]:
        return self.usual

    async def start_pipeline(self, pipeline: Pipeline, folder: Path, *, agreed: bool) -> Started:
        self._note("start_pipeline", pipeline.name, dict(pipeline.params), folder)
        return Started(self.views[0].build, False)

    async def look_at_hosts(self, name: str | None = None, *, check: bool = True) -> Sequence[HostView]:
        self._note("look_at_hosts", name, check)
        return self.host_views

    async def crew(self) -> Crew:
        return Crew((), "no worker is running", well=True)

    async def stats(self, project: str | None = None) -> Stats:
        self._note("stats", project)
        return self.counted

    @property
    def figures(self) -> "FakeOrchestrator":
        return self

    async def beside_stats(self, project: str | None) -> Trends | None:
        return self.trends

    @asynccontextmanager
    async def changes(self) -> AsyncGenerator[Changes]:
        yield Changes()

    async def get(self, reference: int | str) -> BuildView:
        self._note("get", reference)
        return self._view(reference)

    async def wait(self, reference: int | str, timeout_s: float, on_update: OnUpdate | None = None) -> BuildView:
        self._note("wait", reference, timeout_s)
        self._view(reference)
        for one in self.views:
            if on_update is not None:
                await on_update(one)
        return self.views[-1]

    async def list(self, *, project: str | None = None, status: str | None = None, limit: int = 10) -> Sequence[Build]:
        self._note("list", project, status, limit)
        found = [one.build for one in self.views if status in (None, str(one.build.status))]
        return found[:limit]

    async def projects_of(self, listed: Sequence[Build]) -> Mapping[str, Project]:
        return {one.project.id: one.project for one in self.views}

    async def log(self, reference: int | str, stage: str | None = None, **options: Any) -> LogSlice:
        self._note("log", reference, stage, options)
        self._view(reference)
        return self.slice

    async def follow_log(self, reference: int | str, stage: str | None, write: Callable[[bytes], None]) -> None:
        self._note("follow_log", reference, stage)
        for piece in self.log_pieces:
            write(piece)

    async def cancel(self, reference: int | str, *, force: bool = False) -> BuildView:
        self._note("cancel", reference)
        found = self._view(reference)
        if not found.build.status.is_open:
            raise Conflict(f"build {found.build.id} is over already: {found.build.status}")
        return found

    async def retry(self, reference: int | str, *, failed_only: bool = True, agreed: bool = False) -> Started:
        self._note("retry", reference, failed_only)
        old = self._view(reference).build
        self.views.append(view(build(43, "pending", retry_of=old.id)))
        return Started(self.views[-1].build, False)

    async def doctor(
        self, project: str | None = None, *, port: str | None = None, host: str = "local"
    ) -> Sequence[Any]:
        self._note("doctor", project, port, host)
        return self.checks


def folder_of_tests() -> Path:
    return Path(__file__).parents[2]
