"""The plans of a workflow: setup, build, flash beside emulator, doctor beside quality, then the developer's fix.

May import: model, continued, device_plans, pipelines. Never: anything else of ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_server import device_plans
from mcp_server.continued import Begin
from mcp_server.device_plans import Firmware, Watching
from mcp_server.model import Expansion, Plan, Retry, StageSpec
from mcp_server.pipelines.stage import FIX_S

PROJECT_MANAGER, BUILDER, TESTER = "PROJECT_MANAGER", "BUILDER", "TESTER"
DOCTOR, QA, DEVELOPER = "DOCTOR", "QA", "DEVELOPER"
ROLES = (PROJECT_MANAGER, BUILDER, TESTER, DOCTOR, QA, DEVELOPER)

FIX = "fix"
DIRECT_S = 120.0  # of a stage without a job
AUTHOR = "build-orchestrator <build-orchestrator@localhost>"  # of a new project's first commit
LOST = Retry(times=1, on=("lost",))
"""An agent whose job was killed begins its round again, in the session it had where it can."""


@dataclass(frozen=True, slots=True)
class Developer:
    """The agent that mends what failed. `agent` None: the default one; `budget`: tokens, cost_usd."""

    agent: str | None = None
    allowed: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    budget: Mapping[str, float] = field(default_factory=dict[str, float])
    timeout_s: float = FIX_S
    prompt: str = ""

    def stage(self, project: str) -> StageSpec:
        """The stage `fix`."""
        return StageSpec(
            name=FIX,
            kind="agent.fix",
            params=self.params(project),
            timeout_s=self.timeout_s,
            role=DEVELOPER,
            retry=LOST,
        )

    def params(self, project: str) -> dict[str, Any]:
        """As the agents' stages take it."""
        return {
            "project": project,
            "agent": self.agent,
            "allowed": list(self.allowed),
            "commands": list(self.commands),
            "budget": dict(self.budget),
            "prompt": self.prompt,
        }


@dataclass(frozen=True, slots=True)
class Board:
    """The board to flash. `skip`: why it cannot be, which is recorded instead."""

    port: str | None = None
    host: str = "local"
    skip: str = ""


@dataclass(frozen=True, slots=True)
class Tests:
    """Where firmware is run. `board` None: on none; `emulator` None: not asked for, else why it cannot be or ""."""

    board: Board | None = None
    emulator: str | None = ""
    watching: Watching = field(default_factory=Watching)


def workflow(build: StageSpec, firmware: Firmware, tests: Tests, *, developer: Developer | None, rounds: int) -> Plan:
    """All five phases. `build` is the stage that builds; without a developer one round is all."""
    project = firmware.project
    setup = StageSpec(
        name="setup",
        kind="setup",
        params={name: build.params.get(name) for name in ("project", "target", "installation")},
        timeout_s=DIRECT_S,
        role=PROJECT_MANAGER,
    )
    built = build.model_copy(update={"depends_on": ("setup",), "role": BUILDER})
    running = _running(firmware, tests, built.name)
    after = [built.name, *(stage.name for stage in running)]
    stages = [setup, built, *running, *_validation(project, build.params.get("installation"), after)]
    if developer is None:
        return Plan(stages=tuple(stages))
    return Plan(stages=tuple(stages), fix=developer.stage(project), max_rounds=rounds, workspace=project)


def _running(firmware: Firmware, tests: Tests, build: str) -> list[StageSpec]:
    stages: list[StageSpec] = []
    if (board := tests.board) is not None:
        seconds = Watching(tests.watching.expect, tests.watching.fail_on, min(tests.watching.seconds, 10))
        plan = device_plans.flash_and_watch(
            firmware, seconds, host=board.host, port=board.port, erase=False, after=(build,)
        )
        stages += [stage.model_copy(update={"skip": board.skip}) for stage in plan.stages]
    if tests.emulator is not None:
        qemu = device_plans.emulate(firmware, tests.watching, after=(build,))
        stages.append(qemu.model_copy(update={"skip": tests.emulator}))
    return [stage.model_copy(update={"role": TESTER}) for stage in stages]


def _validation(project: str, installation: object, after: Sequence[str]) -> list[StageSpec]:
    params = {"project": project}
    common: dict[str, Any] = {"depends_on": tuple(after), "always": True, "timeout_s": DIRECT_S}
    machine = {**params, "installation": installation}
    return [
        # What the machine lacks is told; whether that matters, the stages that needed it have said.
        StageSpec(name="doctor", kind="doctor", role=DOCTOR, params=machine, allow_failure=True, **common),
        StageSpec(name="qa", kind="qa", role=QA, params=params, **common),
    ]


def with_tests(plan: Plan, tests: Sequence[StageSpec]) -> Plan:
    """The workflow with more stages that run what was built, judged with the others."""
    judges = ("doctor", "qa")
    named = tuple(stage.name for stage in tests)
    stages = [
        stage.model_copy(update={"depends_on": (*stage.depends_on, *named)}) if stage.kind in judges else stage
        for stage in plan.stages
    ]
    place = min(number for number, stage in enumerate(stages) if stage.kind in judges)
    stages[place:place] = [stage.model_copy(update={"role": TESTER}) for stage in tests]
    return plan.model_copy(update={"stages": tuple(stages)})


def mended(plan: Plan, project: str, developer: Developer, rounds: int, begin: Begin | None = None) -> Plan:
    """The plan of a failed build, begun with a fix of what it failed of, then run in the copy that was mended.

    `begin`: what it failed of was itself made in a copy, and is not made again.
    """
    over = {stage.name for stage in plan.stages if stage.once}
    stages = [
        stage.model_copy(update={"depends_on": tuple(name for name in stage.depends_on if name not in over)})
        for stage in plan.stages
        if not stage.once
    ]
    made = plan.model_copy(
        update={
            "stages": tuple(stages),
            "fix": developer.stage(project),
            "fix_first": True,
            "max_rounds": rounds + 1,  # the failed build's own is the first
            "workspace": project,
            "expand": None,
            "order": None,
        }
    )
    return begin.put_in(made) if begin else made


def created(
    project: str, developer: Developer, expansion: Expansion, template: Mapping[str, Any] | None, rounds: int
) -> Plan:
    """A project made from a template, if one is given, and worked on by an agent; what builds it is added then."""
    stages: list[StageSpec] = []
    if template is not None:
        params = {"author": AUTHOR, **template, "destination": project, "fresh": True}
        stages.append(
            StageSpec(
                name="create",
                kind="template",
                params=params,
                directory=project,  # nobody else makes or builds it meanwhile
                timeout_s=600,
                once=True,
                role=PROJECT_MANAGER,
            )
        )
    elif expansion.push:
        # What cannot be pushed is told before an agent works for an hour.
        params = {"project": project, "remote": expansion.remote, "only_look": True}
        stages.append(
            StageSpec(name="look", kind="git.push", params=params, timeout_s=DIRECT_S, once=True, role=PROJECT_MANAGER)
        )
    after = tuple(stage.name for stage in stages)
    work = StageSpec(
        name="work",
        kind="agent.work",
        params={**developer.params(project), "branch": expansion.branch},
        depends_on=after,
        timeout_s=developer.timeout_s,
        once=True,
        role=DEVELOPER,
        retry=LOST,
    )
    return Plan(
        stages=(*stages, work),
        fix=developer.stage(project) if rounds > 1 else None,
        max_rounds=rounds,
        workspace=project,
        expand=expansion,
    )


def delivered(project: str, expansion: Expansion, after: Sequence[str]) -> list[StageSpec]:
    """The stages that commit, push, wait for what is deployed and bring a new project its result.

    Each comes only after all before it passed; none takes a name of `after`.
    """
    stages: list[StageSpec] = []

    def add(name: str, kind: str, timeout_s: float, **params: Any) -> None:
        comes_after = (stages[-1].name,) if stages else tuple(after)
        while name in after:
            name = f"{name}-made"
        given = {"project": project, **params}
        stages.append(
            StageSpec(name=name, kind=kind, params=given, depends_on=comes_after, timeout_s=timeout_s, role=DEVELOPER)
        )

    if expansion.commit or expansion.push:
        add("commit", "git.commit", DIRECT_S, message=expansion.message, whole=True)
    if expansion.push:
        where = {"remote": expansion.remote, "branch": expansion.branch}
        add("push", "git.push", 300, **where, allow_default=expansion.to_default)
    if expansion.push and expansion.wait_ci:
        add("ci", "ci.wait", 3600)
    if expansion.keep:
        add("deliver", "git.deliver", DIRECT_S, commit=expansion.commit or expansion.push)
    return stages
