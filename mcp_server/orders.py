"""What a front asks for, turned into plans: checked at the door, before a row is written.

May import: model, config, errors, plans, idf_stages, pipeline_uses, references, durations, hosts, idf, demo, pipelines,
secret_store. Never: store, engine, a front.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mcp_server import pipeline_uses, plans, references
from mcp_server.config import Config
from mcp_server.config_rules import LOCAL
from mcp_server.demo.place import is_demo_project, simulated_installation
from mcp_server.durations import parse_duration
from mcp_server.errors import BadInput, Conflict, EnvironmentMissing, OrchestratorError, PipelineError
from mcp_server.hosts.registry import Hosts
from mcp_server.idf.environment import choose_installation, find_installations
from mcp_server.idf.installation import Installation, checked_target, read_version
from mcp_server.idf.project import DEFAULT_TARGET, IdfProject, inspect_project
from mcp_server.idf_stages import IdfStages
from mcp_server.model import Build, Plan, Stage, StageSpec
from mcp_server.pipelines import spec
from mcp_server.pipelines.pipeline import Pipeline, PipelineStage
from mcp_server.secret_store import Secrets

TARGET = re.compile(r"[a-z][a-z0-9]{2,19}")
NEVER_PUSH = "security.allow_push of config.yaml is `never`: nothing is pushed from here"
NEVER_FLASH = "security.allow_flash of config.yaml is `never`: no board is flashed from here"
MOST_BYTES = 5_000_000  # of a pipeline file; one that is larger was not written by hand


@dataclass(frozen=True, slots=True)
class RemoteAsk:
    """A command or a task for a host. `timeout` as config.yaml writes durations; None: its default."""

    host: str
    task: str | None = None
    command: str | None = None
    workdir: str | None = None
    project: str | None = None
    artifacts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout: str | float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A plan in a folder, ready to be started. A folder of another host reads `host:path`."""

    folder: str
    plan: Plan
    name: str
    project_name: str
    target: str | None = None
    retry_of: int | None = None


class Orders:
    """Makes orders for one home."""

    def __init__(self, config: Config, hosts: Hosts, environment: Mapping[str, str]) -> None:
        self._config, self._hosts, self._environment = config, hosts, environment

    def idf_build(self, folder: Path, *, target: str | None, clean: bool, host: str, place: str = "build") -> Order:
        """An ESP-IDF build, here in the project's folder `place`; what another host builds comes into one of its own.

        BadInput: no project, unknown target or host. EnvironmentMissing: no ESP-IDF.
        """
        name = self._hosts.resolve(host)[0]
        found = inspect_project(folder)
        if name != LOCAL:
            return self._idf_remote(found, name, target, clean)
        installation = self.installation(found.path)
        chosen = None if target is None else checked_target(installation, target)
        limit = self._config.defaults.timeout
        stage = plans.idf_build(found.path, installation, target=chosen, clean=clean, timeout_s=limit, folder=place)
        return Order(str(found.path), Plan(stages=(stage,)), "idf_build", found.name, chosen or found.target)

    def _idf_remote(self, found: IdfProject, host: str, target: str | None, clean: bool) -> Order:
        if target is not None and not TARGET.fullmatch(target):
            raise BadInput("target", f"{target[:40]!r} is no chip; it is written like esp32c3")
        stage = plans.idf_remote(
            found.path,
            host,
            self._hosts.server(host).idf_path,
            target=target,
            clean=clean,
            shown=target or found.target or DEFAULT_TARGET,
            timeout_s=self._config.defaults.timeout,
        )
        return Order(str(found.path), Plan(stages=(stage,)), "idf_build", found.name, target or found.target)

    def question(self, plan: Plan) -> str | None:
        """What a person must be asked before this plan is started; None: nothing. Conflict: it is forbidden."""
        security, asked = self._config.security, list[str]()
        for words, permission, never in (
            (plans.flashes(plan), security.allow_flash, NEVER_FLASH),
            (plans.pushes(plan), security.allow_push, NEVER_PUSH),
        ):
            if words and permission == "never":
                raise Conflict(never)
            asked += words if permission == "ask" else ()
        return f"{'; '.join(asked)}?" if asked else None

    def again(self, build: Build, stages: Sequence[Stage], *, failed_only: bool) -> Plan:
        """What a retry of a build runs. Conflict: it is not over, or it passed."""
        return plans.again(build, stages, failed_only=failed_only)

    def remote(self, ask: RemoteAsk) -> Order:
        """A command on a host. BadInput names the argument that cannot be used."""
        names = self._hosts.resolve(ask.host)
        if bool(ask.task) == bool(ask.command):
            raise BadInput("task", "give either task or command" + (", not both" if ask.task else ""))
        if ask.task and (without := [name for name in names if not self._hosts.server(name).build]):
            why = f"host {without[0]} has no `build` in config.yaml that makes a command of it: pass command instead"
            raise BadInput("task", why)
        project = Path(references.real_path(ask.project)) if ask.project else None
        if project is not None and not project.is_dir():
            raise BadInput("project", f"{str(project)[:200]!r} is no folder of this machine")
        workdir = ask.workdir or self._hosts.server(names[0]).workdir
        if project is None and workdir is None:
            raise BadInput("workdir", f"host {names[0]} has none in config.yaml: give workdir, or a project to sync")
        stage = plans.command(
            ask.host,
            project or Path(workdir or "/"),
            text=ask.command,
            task=ask.task,
            workdir=ask.workdir,
            env=ask.env,
            artifacts=ask.artifacts,
            synced=project is not None and names != [LOCAL],
            timeout_s=self._limit(ask.timeout),
        )
        place = str(project) if project else workdir if names == [LOCAL] else f"{names[0]}:{workdir}"
        return Order(
            folder=place or "",
            plan=Plan(stages=(stage,)),
            name=ask.task or "remote_build",
            project_name=project.name if project else names[0],
        )

    def _limit(self, timeout: str | float | None) -> float:
        if timeout is None:
            return self._config.defaults.timeout
        try:
            return parse_duration(timeout)
        except ValueError as error:
            raise BadInput("timeout", str(error)) from None

    def read_pipeline(self, path: str | None, text: str | None, params: Mapping[str, Any]) -> Pipeline:
        """A pipeline from a file or from text. PipelineError: every mistake in it; BadInput: no such file."""
        if bool(path) == bool(text):
            raise BadInput("path", "give either path or yaml" + (", not both" if path else ""))
        content = text.encode("utf-8", "surrogatepass") if text else _content(path or "")
        return spec.load(
            content,
            name=path or spec.INLINE,
            params=params,
            defaults=self._config.defaults,
            known_hosts=self._hosts.resolve,
            known_agent=partial(pipeline_uses.known_agent, self._config.agents),
        )

    def pipeline(self, pipeline: Pipeline, folder: Path) -> Order:
        """A pipeline whose relative paths start from `folder`. BadInput, EnvironmentMissing: of its `uses`."""
        folder = Path(references.real_path(str(folder)))
        self._check(pipeline)
        stages = IdfStages(pipeline, folder, self._build_stage, self._known)

        def made(stage: PipelineStage) -> StageSpec:
            return pipeline_uses.here(stage, folder, self._config) or stages.stage(stage)

        plan = pipeline_uses.with_remarks(plans.of_pipeline(pipeline, folder, made), pipeline, folder)
        plan = pipeline_uses.with_fix(pipeline_uses.with_installation(plan), pipeline, folder)
        return Order(str(folder), plan, pipeline.name, folder.name)

    def _check(self, pipeline: Pipeline) -> None:
        """What only this home's configuration can tell: PipelineError with everything that a stage would fail for."""
        secrets, mistakes = Secrets(self._config, self._environment), list[str]()
        for stage in pipeline.stages:
            if (never := self._forbidden(stage)) and not stage.skip:
                mistakes.append(f"stage '{stage.name}': {never}")
            if stage.skip or stage.uses is not None:
                continue
            hosts = [name for server in stage.servers for name in self._hosts.resolve(server)]
            if stage.workdir is None and stage.sync is None:
                homeless = [name for name in hosts if name != LOCAL and not self._hosts.server(name).workdir]
                if homeless:
                    mend = f"give it one, sync a tree, or give server '{homeless[0]}' a workdir in config.yaml"
                    mistakes.append(f"stage '{stage.name}' has no workdir: {mend}")
            for name in stage.secrets:
                try:
                    secrets.get(name)
                except OrchestratorError as error:
                    mistakes.append(f"stage '{stage.name}': {error}")
        if mistakes:
            raise PipelineError(pipeline.source, [f"{pipeline.source}: {mistake}" for mistake in mistakes])

    def _forbidden(self, stage: PipelineStage) -> str:
        security = self._config.security
        if stage.uses == plans.FLASH and security.allow_flash == "never":
            return NEVER_FLASH
        return NEVER_PUSH if stage.uses == plans.PUSH and security.allow_push == "never" else ""

    def _build_stage(self, stage: PipelineStage, project: Path, place: str) -> tuple[StageSpec, str | None]:
        target, clean = stage.with_.get("target"), bool(stage.with_.get("clean"))
        order = self.idf_build(project, target=target, clean=clean, host=stage.servers[0], place=place)
        return order.plan.stages[0], order.target

    def _known(self, folder: Path) -> dict[str, Any] | None:
        """The installation as stages take it; None without one: a board can be flashed all the same."""
        try:
            return self.installation(folder).model_dump(mode="json")
        except EnvironmentMissing:
            return None

    def installation(self, folder: Path | None = None) -> Installation:
        """The ESP-IDF that a build started now would use. EnvironmentMissing: none, or the named one cannot build.

        The demo needs none: its simulated one stands in where nobody named any.
        """
        extra = [Path(self._config.local.idf_path)] if self._config.local.idf_path else []
        found = find_installations(self._environment, extra)
        try:
            return choose_installation(found, self._environment.get("ESP_IDF_VERSION"))
        except EnvironmentMissing:
            if folder is None or not is_demo_project(folder) or not found.may_be_simulated:
                raise
            idf = simulated_installation()
            version = read_version(idf) or "0"
            return Installation(
                path=idf, version=version, python=Path(sys.executable), tools_path=idf, source="simulated"
            )


def _content(path: str) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput("path", f"{path[:200]!r} cannot be read: {why}") from None
    if len(content) > MOST_BYTES:
        raise BadInput("path", f"{path[:200]!r} is larger than {MOST_BYTES // 1_000_000} MB, so it is no pipeline")
    return content
