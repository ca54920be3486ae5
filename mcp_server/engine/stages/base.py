"""The port of a stage kind, and the observers that several kinds share."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mcp_server.config import Config, Server
from mcp_server.hosts.base import Exit, ExitReason, Host
from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.idf.environment import choose_installation, find_installations
from mcp_server.idf.installation import Installation
from mcp_server.model import Artifact, Build, Progress, Stage, StageSpec, Verdict
from mcp_server.secret_store import Secrets


class History(Protocol):
    """What is recorded of a build and of those before it, as attempts in the order they began."""

    async def rows(self) -> Sequence[Stage]:
        """Of this build so far."""
        ...

    async def retried(self) -> Sequence[Stage]:
        """Of the build that this one is a retry of; () where it is none."""
        ...

    async def last_good(self) -> Sequence[Stage]:
        """Of the newest successful build of the same project and target before this one."""
        ...


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a kind may know of the attempt it works for. `previous` are this stage's earlier attempts in this round.

    `tell` shows one sentence about what `prepare` waits for. `host` is where it runs, `server` what config.yaml says of
    that; in `ready` they are those of the first candidate. `store_id` tells this home's things there from another's.
    `hold(resource, what)` returns when the resource, `what` in words, is this build's, until the build ends.
    `built(build_dir)` is what an earlier stage of this build left there, with the number of the build that made it; for
    a stage that comes after none, what the last build there left. None: nothing is recorded. Conflict: it failed.
    """

    build: Build
    spec: StageSpec
    stage: Stage
    config: Config
    environment: Mapping[str, str]
    tell: Callable[[str], Awaitable[None]]
    host: Host
    server: Server
    secrets: Secrets
    store_id: str
    hold: Callable[[str, str], Awaitable[None]]
    built: Callable[[str], Awaitable[tuple[int, Sequence[Artifact]] | None]]
    history: History
    previous: Sequence[Stage] = ()

    @property
    def params(self) -> Mapping[str, Any]:
        return self.spec.params


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job of an attempt, and what was decided for it (`resolved` is stored; no secret may be in it).

    `login`: `env` is laid over what the host gives its user.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    lock: str | None = None
    resolved: Mapping[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""
    login: bool = False


class Observer(Protocol):
    """Reads the job's log as it grows. Fed again from the start by a worker that took over."""

    def feed(self, data: bytes) -> None: ...

    @property
    def progress(self) -> Progress | None:
        """How far the job is, None where the log does not tell."""
        ...

    @property
    def decided(self) -> bool:
        """True once nothing the job may still do can change the verdict: it is then ended."""
        ...


@runtime_checkable
class Impatient(Protocol):
    """An observer that does not wait for ever for a job that has become silent."""

    @property
    def patience_s(self) -> float | None:
        """Seconds without output after which `give_up` is called; None: never. Asked after each piece of output."""
        ...

    def give_up(self) -> None:
        """There was no output for so long. It is `decided` from now on."""
        ...


class StageKind(Protocol):
    """One kind of stage. Raises OrchestratorError from `prepare` where the stage cannot start: its sentence is kept."""

    live: bool
    """Whether the log is read from the first byte on; else only of jobs that take a while."""

    async def ready(self, context: StageContext) -> None:
        """Return once nothing outside stands in the way; called before a host slot is taken."""
        ...

    async def prepare(self, context: StageContext) -> Prepared: ...

    def observe(self, context: StageContext) -> Observer: ...

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        """Judge the end. `details["again"]` true asks for one more attempt at once, as `prepare` knows a better way."""
        ...


@runtime_checkable
class Direct(Protocol):
    """A kind without a job: its work is done by the worker itself, in moments, and takes no slot of a host.

    A worker that takes over does it from the start, so that it must be such that doing it twice is doing it once.
    """

    async def run(self, context: StageContext) -> Verdict:
        """Raises OrchestratorError as `prepare` does. `details["reason"]` names why, where "exit" says too little."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A kind whose job waits for what somebody is to give up first, and asks for that once the job is there."""

    async def begun(self, context: StageContext) -> None:
        """Ask. Called again by a worker that took over, so the job may have all that it needs. Raises as `prepare`."""
        ...


@runtime_checkable
class LooksBack(Protocol):
    """A kind that finds out more than its verdict needs, once that stands: nobody waits for it."""

    async def after(self, context: StageContext, verdict: Verdict) -> Mapping[str, Any] | None:
        """Further details of an attempt that passed, as JSON; None: there are none.

        Others may have its host slot and its directories by then. It is cut short when the worker leaves, and then
        never repeated.
        """
        ...


class LogDiagnosis:
    """Observes a build log: diagnosis and progress."""

    def __init__(self, diagnoser: Diagnoser) -> None:
        self.diagnoser = diagnoser

    def feed(self, data: bytes) -> None:
        self.diagnoser.feed(data)

    @property
    def progress(self) -> Progress | None:
        return self.diagnoser.progress

    @property
    def decided(self) -> bool:
        return False


def result_of(end: Exit) -> Verdict:
    """The verdict that an exit record alone allows."""
    if end.reason is ExitReason.TIMEOUT:
        return Verdict(result="timeout", summary="stopped at its time limit")
    if end.reason is ExitReason.CANCELLED:
        return Verdict(result="cancelled", summary="cancelled")
    if end.reason is ExitReason.LOST:
        return Verdict(
            result="unknown", summary="the job was lost: its processes were killed, or the machine restarted"
        )
    if end.reason is ExitReason.DISK_FULL:
        return Verdict(result="fail", summary="no space left on the disk of the job's log: free some, then retry")
    return Verdict(result="pass" if end.code == 0 else "fail", summary="" if end.code == 0 else f"exit code {end.code}")


async def recorded_images(context: StageContext) -> tuple[Sequence[Artifact] | None, int | None]:
    """The images that must lie in `build_dir`, and the number of the build that made them.

    Those of `params["images"]`, as a front found them, else those that an earlier stage of this build left there.
    (None, None): no build recorded any.
    """
    images, build = context.params.get("images"), context.params.get("build")
    if images is not None:
        found = [Artifact.model_validate(one) for one in images]
    elif (made := await context.built(str(context.params["build_dir"]))) is not None:
        build, found = made
    else:
        return None, None
    return [one for one in found if one.offset is not None], build


def older_firmware(context: StageContext, verdict: Verdict) -> Verdict:
    """The verdict, with a note where the firmware it is about was built before a source was changed."""
    if (changed := context.params.get("changed")) is None:
        return verdict
    note = f"{changed} was changed since build {context.params.get('build')}: this is the firmware without that"
    return verdict.model_copy(
        update={"details": {**verdict.details, "notes": [*verdict.details.get("notes", ()), note]}}
    )


def installation_here(context: StageContext) -> Installation:
    """The ESP-IDF of `params["installation"]`, else that of this machine. EnvironmentMissing: there is none."""
    if given := context.params.get("installation"):
        return Installation.model_validate(given)
    named = context.config.local.idf_path
    found = find_installations(context.environment, [Path(named)] if named else [])
    return choose_installation(found, context.environment.get("ESP_IDF_VERSION"))


def project_path(context: StageContext) -> Path:
    """The source tree the stage works in."""
    return Path(context.params["project"])
