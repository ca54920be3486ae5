"""The project's words as models: project, build, stage, lease, event, artifact, verdict, diagnostic."""

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Closed and unchanging: an unknown key is a mistake, a change is a copy."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class BuildStatus(StrEnum):
    """pending → running → success, failed or cancelled; an end state is never left."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        return self in (BuildStatus.PENDING, BuildStatus.RUNNING)


class StageStatus(StrEnum):
    """State of one attempt at a stage. `waiting` holds no host slot or build directory yet."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_open(self) -> bool:
        return self in (StageStatus.WAITING, StageStatus.RUNNING)


class Diagnostic(Model):
    """One cause, as a tool reported it. `file` is relative to the project where it lies inside it.

    `source` is the offending source line without its number and caret; `count` how often the same cause was printed;
    `notes` are the tool's own follow-up lines worth a reader's time, e.g. the place of an earlier definition.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()
    count: int = 1


class Diagnosis(Model):
    """What a log says, in the order of causes. `errors` is bounded; `error_count` is not.

    `warnings` are the first distinct ones, at most 20; `warning_count` counts all.

    `hints` are ESP-IDF's own or ours, each once. `more_may_follow`: the tool stopped at the first broken step.
    """

    errors: tuple[Diagnostic, ...] = ()
    error_count: int = 0
    warning_count: int = 0
    warnings: tuple[Diagnostic, ...] = ()
    hints: tuple[str, ...] = ()
    more_may_follow: bool = False


class Progress(Model):
    """How far a stage is: `done` of `total` steps, what is being done now, what was found so far."""

    done: int = 0
    total: int = 0
    message: str = ""
    errors: int = 0
    warnings: int = 0


class Artifact(Model):
    """A file that a stage left. `path` is relative to the build directory; `offset` is its flash address, if any."""

    path: str
    size: int
    sha256: str
    kind: str = "file"
    offset: str | None = None


class Verdict(Model):
    """What a stage came to, with the evidence: what a person or a model needs, never a raw log."""

    result: Literal["pass", "fail", "timeout", "cancelled", "unknown"]
    summary: str = ""
    diagnosis: Diagnosis | None = None
    artifacts: tuple[Artifact, ...] = ()
    details: Mapping[str, Any] = Field(default_factory=dict[str, Any])


class Retry(Model):
    """Whether an attempt that failed is made again: at most `times`, after `backoff_s`, doubled each time.

    `on` holds causes (lost, timeout, unreachable, disk_full, exit, compile) and exit codes as text. An exit code named
    there decides first; else `compile` stands for an exit with a diagnosed error and `exit` for any other one.
    None: every cause but `compile`.
    """

    times: int = 0
    on: tuple[str, ...] | None = None
    backoff_s: float = 0


class Sync(Model):
    """A tree that is brought to a stage's working folder first: `path` on the host `source`."""

    source: str = "local"
    path: str


class StageSpec(Model):
    """One node of a build's graph: what to run, where, after what. `kind` names a stage maker, `params` are its own.

    `host` is a name, alias or tag; `hosts` are more of them, where the first free one is to be taken. `directory` is
    leased for the whole build, so that two builds never share it. `timeout_s` 0 means none. `skip` says why it is not
    run at all. `artifacts` are globs below its working folder; those of the stages in `needs_artifacts` are brought
    there. Of the stages in one `group`, over all builds, one runs at a time. `always`: it runs whatever
    became of those that it comes after. `once`: what it came to in the first round counts in all. `role` is the part of
    a workflow that does it, e.g. BUILDER.
    """

    name: str
    kind: str
    params: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    depends_on: tuple[str, ...] = ()
    host: str = "local"
    hosts: tuple[str, ...] = ()
    directory: str | None = None
    timeout_s: float = 7200  # 2 h, `defaults.timeout` of config.yaml
    retry: Retry = Retry()
    skip: str = ""
    allow_failure: bool = False
    artifacts: tuple[str, ...] = ()
    needs_artifacts: tuple[str, ...] = ()
    sync: Sync | None = None
    group: str | None = None
    always: bool = False
    once: bool = False
    role: str | None = None


class Ending(Model):
    """What follows the end of a build: channels to tell, failed stages to run once more, results to archive."""

    notify: tuple[str, ...] = ()
    retry: int = 0
    archive: bool = False


class Expansion(Model):
    """How a project that is made or changed first is built then: in the emulator, too; committed, pushed, deployed.

    `expect` is what its firmware has to print there. `keep`: it is a new project, which is brought what was made of it
    at the end.
    """

    target: str | None = None
    qemu: bool = True
    expect: tuple[str, ...] = ()
    commit: bool = False
    push: bool = False
    remote: str = "origin"
    branch: str | None = None
    to_default: bool = False
    message: str = ""
    wait_ci: bool = False
    keep: bool = False


class Pushed(Model):
    """The commit of a push that a build's states are told of: `repository` is `owner/name` at GitHub."""

    repository: str
    commit: str
    context: str


class Plan(Model):
    """What a build runs: a graph of stages, walked once a round; `fix` is tried between two rounds.

    At most `parallel_limit` of its stages run at a time (None: as many as hosts have slots). `fix_first`: the first
    round is that of the build it retries, so it begins with the fix. `workspace` is a project that an agent works on a
    copy of: what runs after the agent has, runs in the copy. `expand`: these stages make or change the project first,
    and what builds it is added then, by what it is. `callback` is told of the build's end.
    `pushed`: GitHub is told how it goes.
    `order` stands for what was ordered, where the plan itself may come out otherwise on another day.
    `branches`: those to which its commit was pushed, where nobody but pushes ordered it.
    """

    stages: tuple[StageSpec, ...]
    fix: StageSpec | None = None
    max_rounds: int = 1
    parallel_limit: int | None = None
    fix_first: bool = False
    workspace: str | None = None
    expand: Expansion | None = None
    callback: str | None = None
    pushed: Pushed | None = None
    order: str | None = None
    branches: tuple[str, ...] = ()
    on_failure: Ending = Ending()
    on_success: Ending = Ending()


class Project(Model):
    """A source tree that builds are made of.

    `source`: the Git URL that it was cloned from, or the folder that was registered; None where a build made it known.
    `reason`: why it is in `error`, or why its last sync failed.
    """

    id: str
    name: str
    path: str
    status: Literal["pending", "active", "error"] = "active"
    target: str | None = None
    branch: str | None = None
    created_at: datetime
    source: str | None = None
    reason: str | None = None
    synced_at: datetime | None = None


class Build(Model):
    """One run of a plan. The columns up to `created_at` carry the names of the seeds' table.

    Where machines share the work: `place` is where it can be done (None: anywhere; see places), `machine` the one whose
    own folders it uses since it was taken, `worker` who has it now, `claim` how often one took it.
    """

    id: int
    project_id: str
    commit_sha: str = ""
    commit_message: str | None = None
    commit_author: str | None = None
    branch: str | None = None
    triggered_by: str = "manual"
    status: BuildStatus
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration: float | None = None
    build_output: str | None = None
    test_results: Mapping[str, Any] | None = None
    artifacts_path: str | None = None
    created_at: datetime
    task_id: str
    name: str
    target: str | None = None
    plan: Plan
    args_key: str
    priority: int = 10
    reason: str | None = None
    cancel_requested: bool = False
    retry_of: int | None = None
    round: int = 1
    place: str | None = None
    machine: str | None = None
    worker: str | None = None
    claim: int = 0


class Stage(Model):
    """One attempt at a stage of a build. `resolved` is what its maker decided at the start, e.g. ninja or idf.py.

    `unreachable_since`: nothing is known of its job since then, as its host does not answer; it may well be running.
    """

    build: int
    stage: str
    round: int = 1
    attempt: int = 1
    kind: str
    host: str
    status: StageStatus
    reason: str | None = None
    exit_code: int | None = None
    job_id: str | None = None
    spec_sha256: str | None = None
    resolved: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    verdict: Verdict | None = None
    unreachable_since: datetime | None = None


class Event(Model):
    """One appended fact. `id` only grows, and no event with a smaller id appears after a greater one was seen."""

    id: int
    type: str
    build: int | None
    ts: datetime
    data: Mapping[str, Any] = Field(default_factory=dict[str, Any])


class Lease(Model):
    """Who holds what and why; it ends with its job, never by the clock alone."""

    resource: str
    slot: int
    build: int
    stage: str | None
    reason: str
    taken_at: datetime


class Token(Model):
    """What lets somebody use the service: `scope` is what it may do at most. Its text is shown once and not kept."""

    id: str
    name: str
    scope: Literal["read", "build", "flash", "admin"]
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None


_KEYS = uuid.UUID("6ff7a0c1-7c1e-4f0e-9d52-0c6a6f0f8f5b")  # the name space of a bot's own keys for its orders


_LOGIN = re.compile(r"ssh://[^/?#]*:[^/?#]*@|(?!ssh://)[a-z0-9+.-]+://[^/?#]*@", re.IGNORECASE)


def holds_login(url: str) -> bool:
    """Whether a URL holds a password or token, which no row, event or log may have; SSH's user is none."""
    return _LOGIN.match(url) is not None


def task_of_key(idempotency_key: str) -> str:
    """The task UUID of the build that is ordered by this key."""
    return str(uuid.uuid5(_KEYS, idempotency_key))
