"""An orchestrator without database, worker or ESP-IDF: a test says what a build comes to and when."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from mcp_server import device_plans
from mcp_server.build_statistics import Stats
from mcp_server.build_trends import Trends
from mcp_server.clock import SystemClock
from mcp_server.config import Config, load_config
from mcp_server.device_plans import Firmware
from mcp_server.errors import Conflict, NotFound
from mcp_server.expected import Place
from mcp_server.hosts.registry import Hosts
from mcp_server.idf.doctor import Check
from mcp_server.kept import Keeping
from mcp_server.logs import LogSlice
from mcp_server.machines import HostView
from mcp_server.model import (
    Artifact,
    Build,
    BuildStatus,
    Diagnosis,
    Diagnostic,
    Event,
    Plan,
    Progress,
    Project,
    Stage,
    StageSpec,
    StageStatus,
    Verdict,
)
from mcp_server.orchestrator import OnUpdate, Orchestrator
from mcp_server.orders import Order, Orders, RemoteAsk
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.references import build_number
from mcp_server.serial_sessions import Reading
from mcp_server.views import BuildView, Started
from tests.unit.tools.happenings import Happenings

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PROJECT = Project(id="0c5c1d70-0000-4000-8000-000000000001", name="blink", path="/home/me/blink", created_at=NOON)
PLAN = Plan(stages=(StageSpec(name="build", kind="idf.build", directory="/home/me/blink/build"),))

PIPELINE = Pipeline(
    name="ccu2-full-build",
    source="pipeline.yaml",
    stages=(
        PipelineStage(
            name="yocto-image", base="yocto-image", servers=("yocto-builder",), command="./build.py", timeout_s=10_800
        ),
        PipelineStage(name="host-build", base="host-build", servers=("ccu2-builder",), command="make", timeout_s=1800),
        PipelineStage(
            name="integration-test",
            base="integration-test",
            servers=("test-runner",),
            command="pytest -v",
            depends_on=("host-build",),
            timeout_s=3600,
        ),
    ),
    parallel_limit=3,
)
STAGES = tuple(
    StageSpec(name=stage.name, kind="command", host=stage.servers[0], depends_on=stage.depends_on)
    for stage in PIPELINE.stages
)
NO_STATS = Stats(None, 0, 0, 0, 0, 0, 0, 0.0, None, None, None, (), (), (), ())

FLASHED = (
    Artifact(path="bootloader/bootloader.bin", size=20_512, sha256="b" * 64, kind="bootloader", offset="0x0"),
    Artifact(path="blink.bin", size=182_304, sha256="a" * 64, kind="app", offset="0x10000"),
    Artifact(path="blink.elf", size=4_112_880, sha256="c" * 64, kind="elf"),
    Artifact(path="partition_table/partition-table.bin", size=3072, sha256="d" * 64, offset="0x8000"),
)
TWO_ERRORS = Diagnosis(
    errors=(
        Diagnostic(
            severity="error",
            kind="compile",
            message="implicit declaration of function 'gpio_set_levl'; did you mean 'gpio_set_level'?",
            file="main/app_main.c",
            line=41,
            column=5,
            source="    gpio_set_levl(LED, 1);",
        ),
        Diagnostic(
            severity="error",
            kind="compile",
            message="'LED_PIN' undeclared",
            file="main/app_main.c",
            line=57,
            column=12,
            source="    return LED_PIN;",
        ),
    ),
    error_count=2,
    warning_count=36,
    hints=("driver/gpio.h needs esp_driver_gpio in PRIV_REQUIRES of main/CMakeLists.txt",),
)


def a_build(number: int = 42, status: BuildStatus = BuildStatus.PENDING, **columns: Any) -> Build:
    values: dict[str, Any] = {
        "project_id": PROJECT.id,
        "created_at": NOON,
        "task_id": f"0c5c1d70-0000-4000-8000-{number:012d}",
        "name": "idf_build",
        "target": "esp32c3",
        "plan": PLAN,
        "args_key": "key",
        **columns,
    }
    return Build(id=number, status=status, **values)


def a_stage(status: StageStatus, name: str = "build", kind: str = "idf.build", **columns: Any) -> Stage:
    columns = {"job_id": f"abcdef01-42-{name}-1-1", "started_at": NOON, "host": "local", **columns}
    if not status.is_open:
        columns = {"ended_at": NOON + timedelta(seconds=38), **columns}
    return Stage(build=42, stage=name, kind=kind, status=status, **columns)


def a_view(build: Build, *stages: Stage, **more: Any) -> BuildView:
    values: dict[str, Any] = {"elapsed_s": 38.2, **more}
    return BuildView(build=build, project=PROJECT, stages=stages, **values)


def failed_view(diagnosis: Diagnosis | None = TWO_ERRORS, **columns: Any) -> BuildView:
    verdict = Verdict(result="fail", summary="exit code 2", diagnosis=diagnosis)
    stage = a_stage(StageStatus.FAILED, reason="exit", exit_code=2, verdict=verdict)
    columns = {"reason": "exit", "duration": 38.2, **columns}
    return a_view(a_build(status=BuildStatus.FAILED, **columns), stage)


def pipeline_view(status: BuildStatus, *stages: Stage, **more: Any) -> BuildView:
    """A build of PIPELINE. `stages` are its rows so far."""
    columns: dict[str, Any] = {"name": "ccu2-full-build", "target": None, "plan": Plan(stages=STAGES)}
    return a_view(a_build(status=status, started_at=NOON, **columns), *stages, **more)


def failed_pipeline(**more: Any) -> BuildView:
    """yocto-image passed, host-build failed, integration-test was not run."""
    verdict = Verdict(result="fail", summary="exit code 1", diagnosis=TWO_ERRORS)
    return pipeline_view(
        BuildStatus.FAILED,
        a_stage(StageStatus.SUCCESS, "yocto-image", "command", host="yocto-builder", exit_code=0),
        a_stage(
            StageStatus.FAILED,
            "host-build",
            "command",
            host="ccu2-builder",
            reason="exit",
            exit_code=1,
            verdict=verdict,
        ),
        a_stage(
            StageStatus.SKIPPED,
            "integration-test",
            "command",
            host="test-runner",
            reason="dependency",
            job_id=None,
            started_at=None,
            ended_at=None,
        ),
        **more,
    )


def running_view(done: int, total: int, message: str = "compiling gpio.c", **more: Any) -> BuildView:
    stage = a_stage(StageStatus.RUNNING, progress=Progress(done=done, total=total, message=message))
    return a_view(a_build(status=BuildStatus.RUNNING, started_at=NOON), stage, **more)


def succeeded_view(**more: Any) -> BuildView:
    stage = a_stage(StageStatus.SUCCESS, reason="exit", exit_code=0, verdict=Verdict(result="pass"))
    return a_view(a_build(status=BuildStatus.SUCCESS, duration=38.2), stage, **more)


@dataclass
class Fake(Happenings):
    """Has the orchestrator's methods. `views` are what `wait` sees one after another; the last one stays."""

    views: list[BuildView] = field(default_factory=list[BuildView])
    joined: bool = False
    known: dict[str, Project] = field(default_factory=lambda: {PROJECT.name: PROJECT, PROJECT.id: PROJECT})
    checks: Sequence[Check] = ()
    log_slice: LogSlice = field(default_factory=lambda: LogSlice("build", "line 1\nline 2"))
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    error: Exception | None = None
    waits: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    clock: SystemClock = field(default_factory=SystemClock)
    pipeline: Pipeline = field(default_factory=lambda: PIPELINE)
    usual: Mapping[str, float] = field(default_factory=dict[str, float])
    host_views: Sequence[HostView] = ()
    config: Config = field(default_factory=load_config)

    reading: Reading = field(default_factory=lambda: Reading(42, "", open=True))

    @property
    def devices(self) -> "Fake":
        """Stands in for them."""
        return self

    @property
    def orders(self) -> Orders:
        """Real ones: what a person is asked is theirs to say."""
        return Orders(self.config, Hosts(self.config), {})

    async def order_flash(self, project: str, *, build: Any, port: str | None, host: str, erase: bool) -> Order:
        app = Artifact(path="app.bin", size=1, sha256="0" * 64, kind="app", offset="0x10000")
        firmware = Firmware(project, f"{project}/build", "esp32c3", build=build or 41, images=(app,))
        spec = device_plans.flash(firmware, host=host, port=port or "/dev/ttyUSB0", erase=erase)
        return Order(project, Plan(stages=(spec,)), "idf_flash", "p")

    async def flash(self, project: str, **more: Any) -> Started:
        self._note("flash", project=project, **more)
        return Started(a_build(), joined=False)

    async def emulate(self, project: str, **more: Any) -> Started:
        self._note("emulate", project=project, **more)
        return Started(a_build(), joined=False)

    async def open_session(self, port: str | None, host: str, **more: Any) -> Started:
        self._note("open_session", port=port, host=host, **more)
        return Started(a_build(), joined=False)

    async def read(self, session: int | str, **more: Any) -> Reading:
        self._note("read", session=session, **more)
        return self.reading

    async def send(self, session: int | str, data: str, *, reset: bool = False) -> str:
        self._note("send", session=session, data=data, reset=reset)
        return f"session {session}: sent"

    async def close_session(self, session: int | str) -> str:
        self._note("close_session", session=session)
        return f"session {session} closed"

    @property
    def machines(self) -> "Fake":
        """Stands in for them: its hosts are those of PIPELINE."""
        return self

    @property
    def hosts(self) -> "Fake":
        return self

    def names(self) -> Sequence[str]:
        return ["local", "yocto-builder", "ccu2-builder", "test-runner"]

    def resolve(self, reference: str) -> Sequence[str]:
        return [reference]

    def slots(self, name: str) -> int:
        return 3

    async def open(self) -> Orchestrator:
        return cast(Orchestrator, self)

    def push(self, view: BuildView) -> None:
        """What happens to the build while somebody waits."""
        self.views.append(view)
        self.changed.set()

    def called(self, name: str) -> dict[str, Any]:
        return next(arguments for called, arguments in self.calls if called == name)

    def _note(self, called: str, /, **arguments: Any) -> None:
        self.calls.append((called, arguments))
        if self.error is not None:
            raise self.error

    async def start_build(self, project: str, **arguments: Any) -> Started:
        self._note("start_build", project=project, **arguments)
        return Started(self.views[0].build, self.joined)

    async def start_remote(self, ask: RemoteAsk, **arguments: Any) -> Started:
        self._note("start_remote", ask=ask, **arguments)
        return Started(self.views[0].build, self.joined)

    async def read_pipeline(self, **arguments: Any) -> Pipeline:
        self._note("read_pipeline", **arguments)
        return self.pipeline

    @property
    def projects(self) -> "Fake":
        return self

    async def usual_durations(self, folder: Path, name: str) -> Mapping[str, float]:
        return self.usual

    async def start_pipeline(self, pipeline: Pipeline, folder: Path, **arguments: Any) -> Started:
        self._note("start_pipeline", pipeline=pipeline, folder=folder, **arguments)
        return Started(self.views[0].build, self.joined)

    async def look_at_hosts(self, name: str | None = None, *, check: bool = True) -> Sequence[HostView]:
        self._note("look_at_hosts", name=name, check=check)
        return self.host_views

    async def stats(self, project: str | None = None) -> Stats:
        self._note("stats", project=project)
        return NO_STATS

    @property
    def figures(self) -> "Fake":
        return self

    @property
    def kept(self) -> "Fake":
        return self

    async def gone(self, view: BuildView, path: str) -> NotFound:
        return NotFound(f"{path} of build {view.build.id} is gone")

    async def keeping(self, view: BuildView) -> Keeping:
        return Keeping(here=True, store=None, stored=False, why=None)

    async def beside_stats(self, project: str | None) -> Trends | None:
        return None

    async def retry(self, reference: int | str, *, failed_only: bool = True, agreed: bool = False) -> Started:
        self._note("retry", reference=reference, failed_only=failed_only, agreed=agreed)
        if not self.views[0].build.status.is_open and self.views[0].build.status is BuildStatus.SUCCESS:
            raise Conflict("build 42 is success: only a failed or cancelled build can be retried")
        return Started(self.views[0].build, joined=False)

    async def cancel(self, reference: int | str) -> BuildView:
        self._note("cancel", reference=reference)
        return await self.get(reference)

    async def get(self, reference: int | str) -> BuildView:
        self._note("get", reference=reference)
        number = build_number(reference)
        for view in reversed(self.views):
            if number in (view.build.id, view.build.task_id):
                return view
        raise NotFound(f"there is no build {number}")

    async def wait(self, reference: int | str, timeout_s: float, on_update: OnUpdate | None = None) -> BuildView:
        view = await self.get(reference)
        deadline = self.clock.monotonic() + timeout_s
        self.waits += 1
        for view in [*self.views]:
            if on_update is not None:
                await on_update(view)
        while view.build.status.is_open and (left := deadline - self.clock.monotonic()) > 0:
            try:
                await self.clock.within(left, self.changed.wait())
            except TimeoutError:
                break
            self.changed.clear()
            view = self.views[-1]
            if on_update is not None:
                await on_update(view)
        return view

    async def list(self, *, project: str | None = None, status: str | None = None, limit: int = 10) -> Sequence[Build]:
        self._note("list", project=project, status=status, limit=limit)
        return [view.build for view in self.views][:limit]

    @property
    def queue(self) -> "Fake":
        """Nothing waits."""
        return self

    async def of(self, _: Sequence[Build]) -> Mapping[int, Place]:
        return {}

    async def projects_of(self, listed: Sequence[Build]) -> Mapping[str, Project]:
        return {PROJECT.id: PROJECT}

    async def find_project(self, text: str) -> Project:
        self._note("find_project", text=text)
        if text not in self.known:
            raise NotFound(f"project {text!r} is not known")
        return self.known[text]

    async def newest_events(self, reference: int | str, limit: int) -> Sequence[Event]:
        self._note("newest_events", reference=reference, limit=limit)
        return self.happened

    async def log(self, reference: int | str, stage: str | None = None, **how: Any) -> LogSlice:
        self._note("log", reference=reference, stage=stage, **how)
        return replace(self.log_slice, stage=stage or self.log_slice.stage)

    async def doctor(
        self, project: str | None = None, *, port: str | None = None, host: str = "local", named: bool = True
    ) -> Sequence[Check]:
        self._note("doctor", project=project, port=port, host=host, named=named)
        return self.checks
