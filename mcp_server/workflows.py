"""What several roles do together, and what code agents mend and make: as every front asks for it.

May import: model, config, errors, agents, build_spec, continued, device_plans, devices, workflow_plans, hosts, idf,
orders, pipelines, references, plans, scopes, templates, text, views. Never: engine, a front.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server import references, scopes, workflow_plans
from mcp_server.agents import workspace
from mcp_server.agents.apply_to import apply_to
from mcp_server.agents.registry import AgentView, Registry
from mcp_server.build_spec import BuildSpec
from mcp_server.config_rules import LOCAL
from mcp_server.continued import begin_of
from mcp_server.device_plans import Firmware
from mcp_server.devices import EMULATED_S, watched
from mcp_server.errors import BadInput, Conflict, NotFound
from mcp_server.hosts.ports import find_port
from mcp_server.idf.installation import Installation
from mcp_server.idf.project import DEFAULT_TARGET
from mcp_server.idf.qemu import why_not
from mcp_server.model import BuildStatus, Expansion, Plan, StageSpec, StageStatus, task_of_key
from mcp_server.orders import NEVER_FLASH, Order
from mcp_server.pipelines.stage import MAX_ROUNDS
from mcp_server.plans import args_key
from mcp_server.text import one_line
from mcp_server.views import BuildView, Started
from mcp_server.workflow_plans import Board, Developer, Tests

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

CREATE = "create_and_build"
DELIVERS = ("git.commit", "git.push", "git.deliver", "ci.wait")  # kinds of what comes after all was built and tested
AGENTS = "agent."  # how the kinds of stages begin in which an agent works
RESOLVE_S = 0.05  # whoever orders a build waits no longer for a name


@dataclass(frozen=True, slots=True)
class WorkflowAsk:
    """A workflow as a front asks for it. `agent` None: nobody mends; "default": the default agent does."""

    project: str
    target: str | None = None
    flash: bool = False
    qemu: bool = True
    agent: str | None = None
    max_rounds: int = 3
    host: str = LOCAL
    port: str | None = None
    expect: Sequence[str] = ()
    fail_on: Sequence[str] = ()
    budget: Mapping[str, float] = field(default_factory=dict[str, float])


class Workflows:
    """Over the builds that the orchestrator starts."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def agents(self) -> Sequence[AgentView]:
        """Every agent that is known here, and whether it can be used."""
        await self._orchestrator.refresh()
        return await self._registry().listing()

    def _registry(self) -> Registry:
        return Registry(self._orchestrator.config.agents, self._orchestrator.environment)

    async def developer(self, agent: str | None, **more: object) -> Developer:
        """The developer of a plan. BadInput: no such agent. EnvironmentMissing: it cannot be used, or none can."""
        chosen = await self._registry().usable(None if agent in (None, "default") else agent)
        return Developer(agent=chosen.name, **more)  # pyright: ignore[reportArgumentType]

    async def check_agent(self, fix: StageSpec) -> None:
        """BadInput, EnvironmentMissing: as `developer`, before anything is built that nobody could mend."""
        await self.developer(fix.params.get("agent"))

    # -- the workflow ------------------------------------------------------------------------------------------------

    async def order(self, ask: WorkflowAsk) -> Order:
        """setup → build → (flash ∥ emulator) → (doctor ∥ quality) → fix, and again.

        BadInput, EnvironmentMissing, Conflict: as `start_build` and `flash`; no such agent, or none that can be used.
        """
        orchestrator = self._orchestrator
        scopes.need(scopes.of_wish(flash=ask.flash, agent=ask.agent))
        _rounds(ask.max_rounds)
        plan = watched(ask.expect, ask.fail_on, EMULATED_S)
        order = await orchestrator.order_build(ask.project, target=ask.target, clean=False, host=ask.host)
        made = order.plan.stages[0]
        target = order.target or DEFAULT_TARGET
        firmware = Firmware(
            order.folder, made.params["build_dir"], target, installation=made.params.get("installation")
        )
        board = await self._board(target, ask.port) if ask.flash else None
        emulator = await asyncio.to_thread(self._emulator, made, target) if ask.qemu else None
        developer = None if ask.agent is None else await self.developer(ask.agent, budget=dict(ask.budget))
        tests = Tests(board, emulator, plan)
        stages = workflow_plans.workflow(made, firmware, tests, developer=developer, rounds=ask.max_rounds)
        return Order(order.folder, stages, "workflow", order.project_name, order.target)

    async def run(self, ask: WorkflowAsk, *, triggered_by: str = "manual", agreed: bool = False) -> Started:
        """Start a workflow. Raises what `order` does; NotAgreed as `flash`."""
        return await self._orchestrator.start(await self.order(ask), triggered_by, agreed=agreed)

    async def _board(self, target: str, port: str | None) -> Board:
        """The board to flash; where none is connected, why it is left out."""
        orchestrator = self._orchestrator
        if orchestrator.config.security.allow_flash == "never":
            raise Conflict(NEVER_FLASH)
        if target == "linux":
            return Board(skip="firmware for the linux target runs on no board")
        try:
            found = await find_port(orchestrator.host(LOCAL), port)
        except BadInput as error:
            if port is not None or "no board is connected" not in str(error):
                raise
            return Board(skip="no board is connected")
        return Board(port=found.stable or found.path)

    def _emulator(self, made: StageSpec, target: str) -> str:
        """Why the emulator is left out; "" where it is not."""
        if target == "linux":
            return "" if made.host == LOCAL else "it was built for another machine"
        given = made.params.get("installation")
        installation = (
            Installation.model_validate(given)
            if given
            else self._orchestrator.orders.installation(Path(made.params["project"]))
        )
        return why_not(installation, target, self._orchestrator.environment.get("PATH", ""))

    # -- mending -----------------------------------------------------------------------------------------------------

    async def fix(
        self,
        build: int | str,
        *,
        agent: str | None = None,
        max_rounds: int = 3,
        budget: Mapping[str, float] | None = None,
        agreed: bool = False,
        triggered_by: str = "fix",
    ) -> Started:
        """Let an agent mend what a build failed of, in a copy of its project, proved by building there again.

        Conflict: the build did not fail, or its sources are not here. NotAgreed: its plan flashes a board.
        """
        orchestrator = self._orchestrator
        scopes.need(scopes.of_wish(agent=agent))
        await orchestrator.refresh()
        view = await self._that_failed(build)
        _rounds(max_rounds)
        _mendable(view, view.project.path)
        begin = begin_of(view.build, view.stages)
        developer = await self.developer(agent, budget=dict(budget or {}), prompt=wish_of(view.build.plan))
        plan = workflow_plans.mended(view.build.plan, view.project.path, developer, max_rounds, begin)
        order = Order(view.project.path, plan, "fix", view.project.name, view.build.target, retry_of=view.build.id)
        return await orchestrator.start(order, triggered_by, agreed=agreed)

    async def _that_failed(self, build: int | str) -> BuildView:
        """A build; where it was itself to mend one and came to no build of its own, that one."""
        view = await self._orchestrator.get(build)
        while view.build.plan.fix_first and view.build.retry_of is not None and view.build.status is BuildStatus.FAILED:
            if not all(row.kind.startswith("agent.") for row in view.stages):
                break
            view = await self._orchestrator.get(view.build.retry_of)
        return view

    async def apply(self, build: int | str) -> Sequence[str]:
        """Bring what an agent changed, and what was proved by that build, into the project itself: the files' names.

        Conflict: the build did not succeed, no agent worked in it, or the project has changed there since.
        """
        view = await self._orchestrator.get(build)
        worked = [(row.resolved, row.verdict) for row in view.stages if row.resolved and "place" in row.resolved]
        if view.build.status is not BuildStatus.SUCCESS:
            raise Conflict(f"build {view.build.id} is {view.build.status}: only what was proved is applied")
        if not worked:
            raise Conflict(f"no agent worked in build {view.build.id}")
        place, branch = worked[-1][0]["place"], worked[-1][0]["branch"]
        space = await workspace.open_(Path(str(place)))
        if space is None:
            raise Conflict(
                f"{place} is gone, as what is older than artifacts.keep is; in Git, branch {branch} has the change"
            )
        # Not the files as they are now: a build may have changed some, too, and who came by since.
        accepted = [sha for _, verdict in worked if verdict and (sha := verdict.details.get("commit_sha"))]
        files = await apply_to(space, Path(view.project.path), commit=str(accepted[-1]) if accepted else None)
        return tuple(one_line(os.fsencode(name).decode("utf-8", "replace"), 400) for name in files)  # to be printed

    # -- making ------------------------------------------------------------------------------------------------------

    async def create(self, spec: BuildSpec, *, triggered_by: str = "manual", agreed: bool = False) -> Started:
        """Make or take a project, let an agent work on it, build and test it, commit and push where asked.

        Returns before anything is made. One order with one `idempotency_key` is one build, whatever became of it.
        BadInput: what cannot be used. NotAgreed: it pushes, and nobody was asked. Conflict: pushing is forbidden, the
        name is taken, or the key was another order's.
        """
        orchestrator, push = self._orchestrator, spec.auto_push or spec.auto_deploy
        scopes.need(scopes.of_wish(push=push, agent=spec.agent, template=spec.template))
        await orchestrator.refresh()
        spec.checked()
        _rounds(spec.max_rounds)
        if (known := await self._ordered(spec)) is not None:
            return known
        if spec.callback_url is not None:
            await self._check_callback(spec.callback_url)
        folder, template = await asyncio.to_thread(self._place, spec)
        developer = await self.developer(spec.agent, prompt=spec.prompt, timeout_s=spec.timeout)
        plan = workflow_plans.created(str(folder), developer, self._expansion(spec), template, spec.max_rounds)
        plan = plan.model_copy(update={"callback": spec.callback_url, "order": spec.key})
        order = Order(str(folder), plan, CREATE, folder.name, spec.target)
        return await orchestrator.start(
            order, triggered_by, agreed=agreed, priority=spec.priority, key=spec.idempotency_key
        )

    async def _ordered(self, spec: BuildSpec) -> Started | None:
        """The build that was ordered by this key before. Conflict: it was another order."""
        if spec.idempotency_key is None:
            return None
        try:
            known = (await self._orchestrator.get(task_of_key(spec.idempotency_key))).build
        except NotFound:
            return None
        if known.args_key != args_key(CREATE, Plan(stages=(), order=spec.key)):
            raise Conflict(f"idempotency_key: build {known.id} was ordered by this key, and was another order")
        return Started(known, True)

    def _expansion(self, spec: BuildSpec) -> Expansion:
        push = spec.auto_push or spec.auto_deploy
        return Expansion(
            target=spec.target,
            expect=watched(spec.expect, (), EMULATED_S).expect,
            commit=spec.auto_commit or push,
            push=push,
            remote=spec.remote,
            branch=spec.branch,
            to_default=self._orchestrator.config.security.push_to_default,
            message=_title(spec.prompt),
            wait_ci=push and self._orchestrator.config.ci.woodpecker is not None,
            keep=spec.template is not None,
        )

    def _place(self, spec: BuildSpec) -> tuple[Path, Mapping[str, object] | None]:
        """Where the project is or will be, and what makes it. BadInput: what can be told of that beforehand."""
        from mcp_server import templates  # noqa: PLC0415 - few builds begin with one

        if spec.template is None:
            folder = Path(references.real_path(spec.project or "."))
            if not folder.is_dir():
                raise BadInput("project", f"{str(folder)[:200]!r} is no folder of this machine")
            return folder, None
        assert spec.name is not None
        folder = self._orchestrator.config.projects_dir / spec.name
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(
                f"project {spec.name} is there already ({folder}): give another name, or build it by project"
            )
        name = {} if "/" in spec.template else {"name": spec.name}  # those that are built in all want it
        variables = {**name, **spec.variables}
        templates.check(spec.template, variables)
        return folder, {"template": spec.template, "variables": variables}

    async def _check_callback(self, url: str) -> None:
        from mcp_server.notify.callback import check_target  # noqa: PLC0415 - few builds have one

        with contextlib.suppress(TimeoutError):  # a slow resolver: it is checked again before each delivery
            async with asyncio.timeout(RESOLVE_S):
                await check_target(url, self._orchestrator.config.security.callback_hosts)


def _title(prompt: str) -> str:
    line = next(line.strip() for line in prompt.splitlines() if line.strip())
    return line if len(line) <= 72 else line[:69] + "..."


def _rounds(count: int) -> None:
    if not 1 <= count <= MAX_ROUNDS:
        raise BadInput("max_rounds", f"{count} is not between 1 and {MAX_ROUNDS}")


def wish_of(plan: Plan) -> str:
    """What the project was to become, where an agent was told so; "" where none was."""
    working = (one for one in (*plan.stages, *([plan.fix] if plan.fix else [])) if one.kind.startswith(AGENTS))
    said = (stage.params.get("prompt") for stage in working)
    return next((str(prompt) for prompt in said if prompt), "")


def _mendable(view: BuildView, project: str) -> None:
    build = view.build
    if build.status is not BuildStatus.FAILED:
        state = "succeeded" if build.status is BuildStatus.SUCCESS else f"is {build.status}"
        raise Conflict(f"build {build.id} {state}: only a failed build can be mended")
    if not project.startswith("/"):
        raise Conflict(f"the sources of build {build.id} are in {project}, and agents work on this machine")
    if any("checkout" in stage.params for stage in build.plan.stages):
        what = build.commit_sha[:12] or "a branch"
        raise Conflict(
            f"build {build.id} was of {what}, not of its project's folder: build the folder, then mend that build"
        )
    for row in view.stages:
        if row.round == build.round and row.status is StageStatus.FAILED and row.kind in DELIVERS:
            raise Conflict(f"build {build.id} failed in {row.stage}, which no change mends: build_retry({build.id})")
    far = [
        stage for stage in build.plan.stages if stage.host != LOCAL and stage.sync is None and stage.kind == "command"
    ]
    if far:
        where = f"stage {far[0].name} runs in a folder of host {far[0].host} that is not synced from here"
        raise Conflict(f"{where}: what an agent changes would never reach it")
