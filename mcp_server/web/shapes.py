"""What goes over the wire, with the examples that /api/docs shows. Times are ISO 8601 in UTC, durations seconds."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.build_spec import BuildResult, BuildSpec
from mcp_server.expected import Place
from mcp_server.model import Build, BuildStatus, Project
from mcp_server.web.trend_shapes import StageCompile, StageCoverage

MOST_ROWS = 200
MOST_PROMPT_BYTES = 16_384  # of what a build's answer has of a prompt, which may have 256 KiB
LAST = 2**53 - 1  # the largest number that every JSON reader keeps exact, and that a database takes


class Body(BaseModel):
    """A request's body: an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid")


class QueuePlace(BaseModel):
    """Where a pending build waits: `position` from 1, in the order in which they will be taken, `of` so many."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "position": 3,
                    "of": 12,
                    "expected_start": "2024-01-15T10:34:00Z",
                    "reason": "project blink has 2 of 2 builds running",
                }
            ]
        }
    )

    position: int
    of: int
    expected_start: datetime | None = Field(description="From what such builds took; null where nobody knows.")
    reason: str

    @classmethod
    def of_place(cls, place: Place | None) -> "QueuePlace | None":
        """The same of a place."""
        return None if place is None else cls(**dataclasses.asdict(place))


class BuildRow(BaseModel):
    """A build without its stages and output."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 42,
                    "project_id": "9b1f",
                    "commit_sha": "abc1234",
                    "status": "running",
                    "started_at": "2024-01-15T10:30:00Z",
                    "completed_at": None,
                    "duration": None,
                    "name": "workflow",
                }
            ]
        }
    )

    id: int
    task_id: str
    project_id: str
    project: str = Field(description="The project's name.")
    name: str
    status: BuildStatus
    reason: str | None
    commit_sha: str
    commit_message: str | None
    commit_author: str | None
    branch: str | None
    triggered_by: str
    target: str | None
    priority: int
    round: int
    retry_of: int | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    duration: float | None
    test_results: Mapping[str, Any] | None
    artifacts_path: str | None
    queue: QueuePlace | None = Field(description="Of a pending build; null of any other.")

    @classmethod
    def of(cls, build: Build, project: Project | None, place: Place | None = None) -> "BuildRow":
        """The row of a build of that project, with its place in the queue."""
        names = set(BuildRow.model_fields) - {"project", "queue"}
        facts = {name: getattr(build, name) for name in names}
        return cls(project=project.name if project else "", queue=QueuePlace.of_place(place), **facts)


class ScheduleRow(BaseModel):
    """A schedule of config.yaml: when it comes next, and the build of the last time; `problem` is why there is none."""

    name: str
    project: str
    cron: str
    timezone: str
    branch: str | None
    next: datetime | None
    last_build: int | None
    last_status: BuildStatus | None
    last_at: datetime | None
    problem: str | None


class QueuedBuild(QueuePlace):
    """A pending build, and its place."""

    build: int
    project_id: str
    project: str
    priority: int


class QueuePage(BaseModel):
    """Pending builds in the order in which they will be taken; `next` as `after` brings those that follow.

    `builds` and `per_project` are the limits of config.yaml, `running` how many builds count for them now.
    """

    builds: int
    per_project: int | None
    running: int
    pending: int
    queue: list[QueuedBuild]
    next: int | None


class BuildPage(BaseModel):
    """Builds, the newest first; `next` as `after` brings those that follow, null at the end."""

    builds: list[BuildRow]
    next: int | None


class BuildWhole(BuildRow):
    """A build with all that belongs to it. `verdict` is what a model is told of it.

    `decided_by` is the attempt whose verdict is the build's, as `STAGE:ROUND.ATTEMPT`; `graph` has each planned stage
    with the names of those that it comes after. `compile` and `coverage` are those of the stages that tell of it.
    """

    build_output: str | None
    prompt: str | None = Field(
        description="What the agent that works in this build was asked for, at most 16 KiB of it; null where none was.",
        examples=["Create a coming soon page with a dark theme"],
    )
    verdict: str
    decided_by: str | None
    graph: list[Mapping[str, Any]]
    stages: list[Mapping[str, Any]]
    artifacts: list[Mapping[str, Any]]
    compile: list[StageCompile]
    coverage: list[StageCoverage]
    blocked_by: list[Mapping[str, Any]]
    idle: str | None = Field(
        default=None, description="Why nobody works on it: its worker, or the machine it needs, is away."
    )
    elapsed_s: float
    eta_s: float | None


class WorkerRow(BaseModel):
    """A worker. `machine`, `started_at` and `seen_at` are null where it is the only one of a home of its own."""

    name: str
    machine: str | None
    home: str
    version: str
    state: Literal["serving", "leaving", "away"] = Field(description="away: not heard of any more, it counts as dead.")
    leads: bool = Field(description="Of several workers one hands out the builds.")
    builds: int = Field(description="Open builds that it has.")
    started_at: datetime | None
    seen_at: datetime | None
    differs: list[str] = Field(description="Sections in which its config.yaml is not what the leader's is.")


class WorkerList(BaseModel):
    """The workers, and a sentence of what is to be known of them."""

    text: str
    workers: list[WorkerRow]


class Trigger(Body):
    """What is to be built: the whole workflow, in the emulator and, with `flash`, on the board."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"trigger": "manual"}]})

    commit_sha: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{4,64}$")
    branch: str | None = Field(default=None, max_length=200)
    trigger: Literal["manual", "push", "webhook", "api"] | None = Field(
        default=None, description="What the build says of who has started it; without: `api`, from the page `manual`."
    )
    target: str | None = Field(default=None, max_length=40)
    flash: bool = False
    qemu: bool = True
    agent: str | None = Field(default=None, max_length=200)
    max_rounds: int = 3
    expect: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(
        default=[], max_length=32, description="Regular expressions; firmware that has printed them all has passed."
    )
    priority: int = Field(default=10, ge=0, le=100, description="0 goes first.")


class Triggered(BaseModel):
    """The build that was started, or the pending one that is the same."""

    build_id: int
    status: BuildStatus
    project_id: str
    commit_sha: str


class ImportAsk(Body):
    """A folder of this machine, or a Git URL: https, ssh, git@host:path or git."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"source": "https://github.com/espressif/esp-idf-template.git"}]},
    )

    source: str = Field(min_length=1, max_length=4096)
    name: str | None = Field(default=None, max_length=100)
    target: str | None = Field(default=None, max_length=40)
    branch: str | None = Field(default=None, max_length=200)


class ImportedProject(BaseModel):
    """The project, and the build that clones or syncs it; null for a folder."""

    project: Project
    build_id: int | None


class SyncAsk(Body):
    """`build`: it is built once it is up to date."""

    build: bool = False


class RemoveAsk(Body):
    """`delete`: the folder that was cloned is taken away, too.

    `unpushed`: also where it holds commits or changes that are nowhere else, or git cannot read it any more.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"delete": True, "unpushed": False}]})

    delete: bool = False
    unpushed: bool = False


class Removed(BaseModel):
    """One sentence: what is gone, and what stays."""

    removed: str


class ComparedFile(BaseModel):
    """A file that is not the same in both; sizes in bytes, null where it is not there."""

    path: str
    change: Literal["new", "gone", "changed"]
    size: int | None
    was: int | None


class ComparedSize(BaseModel):
    """Bytes that a stage's firmware uses of its app partition (`app`) or a memory; null where it is not on record."""

    stage: str
    what: str
    size: int | None
    was: int | None


class Compared(BaseModel):
    """What `build` left and weighs against `to`; `unchanged` counts files that are the same, by hash."""

    build: int
    to: int
    unchanged: int
    files: list[ComparedFile]
    sizes: list[ComparedSize]


class RetryAsk(Body):
    """`failed_only`: what passed is not run again."""

    failed_only: bool = True


class PipelineAsk(Body):
    """A pipeline as YAML; its relative paths start from `project`, a known one."""

    yaml: str = Field(max_length=5_000_000)
    project: str = Field(max_length=4096)
    params: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    dry_run: bool = False


class Order(BuildSpec):
    """What an agent is to do to the project, and what is to be done with that."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=False,  # unlike its base: FastAPI takes it apart at once
        json_schema_extra={
            "examples": [
                {
                    "prompt": "Create a coming soon page with a dark theme",
                    "template": "web-page",
                    "name": "coming-soon",
                    "auto_commit": True,
                    "callback_url": "https://bots.example/build-complete",
                    "idempotency_key": "order-7",
                }
            ]
        },
    )


class Task(BaseModel):
    """An order as bots see it: `success` of a build reads `completed`."""

    task_id: str
    project_id: str
    status: Literal["pending", "running", "completed", "failed", "cancelled"]
    result: BuildResult | None = None

    @staticmethod
    def word(status: BuildStatus) -> str:
        """A build's status in the words of bots."""
        return "completed" if status is BuildStatus.SUCCESS else str(status)


class Ordered(BaseModel):
    """The task that was made of an order, or the one that the same idempotency key made before."""

    task_id: str
    status: str
