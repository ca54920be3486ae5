"""The projects that are known here: imported, synced, removed, and how long their builds take.

May import: model, config, errors, git_source, idf, only_here, orders, project_file, project_plans, references, scopes,
store, views, workflows. Never: engine, a front.
"""

import asyncio
import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mcp_server import git_source, only_here, project_plans, references, scopes
from mcp_server.errors import BadInput, Conflict
from mcp_server.idf.project import is_project
from mcp_server.model import Expansion, Plan, Project, Pushed
from mcp_server.orders import TARGET, Order
from mcp_server.project_file import NAMES, find_project_file
from mcp_server.store import builds, projects, stats
from mcp_server.views import Started
from mcp_server.workflows import WorkflowAsk

if TYPE_CHECKING:
    from mcp_server.orchestrator import Orchestrator

OWN = "project"  # the name of builds by a project's own pipeline, before it is known which
_FOR_OTHERS = re.compile(r"^\[build-orchestrator\]\s+public = true$", re.MULTILINE)


USUAL = 10  # the priority of what says nothing of it


@dataclass(frozen=True, slots=True)
class Imported:
    """A project, and the build that brings it here; None where its folder was only registered."""

    project: Project
    build: int | None


class Projects:
    """Over the store of one orchestrator."""

    def __init__(self, orchestrator: "Orchestrator") -> None:
        self._orchestrator = orchestrator

    async def list(self, *, limit: int, after: str | None = None) -> Sequence[Project]:
        """Projects by name; those that follow the one with the id `after`."""
        store = await self._orchestrator.store()
        return await store.read(lambda c: projects.list_projects(c, limit=limit, after=after))

    async def usual_durations(self, folder: Path, name: str) -> Mapping[str, float]:
        """Seconds that each stage of a pipeline usually takes, from its earlier builds in the folder."""
        path = await asyncio.to_thread(references.real_path, str(folder))

        def statements(c: sa.Connection) -> Mapping[str, float]:
            found = builds.find_projects(c, path)
            return stats.stage_durations(c, found[0].id, name) if found else {}

        return await (await self._orchestrator.store()).read(statements)

    async def import_(
        self,
        source: str,
        name: str | None = None,
        target: str | None = None,
        branch: str | None = None,
        *,
        public: bool = False,
        triggered_by: str = "manual",
    ) -> Imported:
        """Make a project known: a folder, registered as it is, or a Git URL, cloned by a build. A known one is synced.

        `public`: whoever asks is elsewhere, and may name public hosts only, but for `security.project_hosts`. BadInput:
        a source, name or branch that cannot be used. Conflict: the name is taken.
        """
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        if branch is not None:
            git_source.checked_branch(branch)
        if name is not None:
            git_source.checked_name(name)
        if target is not None and not TARGET.fullmatch(target):
            raise BadInput("target", f"{target[:40]!r} is no chip; it is written like esp32c3")
        if not git_source.is_url(source):
            return await self._register(source, name, target, branch)
        await self._check(source, public=public)
        name = name or git_source.name_of(source)
        folder = orchestrator.config.projects_dir / name
        store, now = await orchestrator.store(), orchestrator.clock.now()
        known = await store.read(lambda c: builds.find_projects(c, str(folder)))
        if known and known[0].source == source and known[0].status == "active":
            synced = await self.sync(known[0].id, public=public, triggered_by=triggered_by)
            return Imported(known[0], synced.build.id)
        if known and known[0].status == "active" and known[0].source:
            raise Conflict(f"name: {name} is a clone of {known[0].source} already: give another one")
        if await asyncio.to_thread(folder.exists):
            raise Conflict(f"{folder} is there already: give another name, or import the folder")
        project = await store.write(
            lambda c: projects.import_project(
                c,
                path=str(folder),
                name=name,
                source=source,
                status="pending",
                target=target,
                branch=branch,
                now=now,
            )
        )
        parent = str(orchestrator.config.projects_dir)
        plan = project_plans.clone(source, str(folder), branch, parent=parent, reach=self._reach(public))
        return Imported(project, (await self._start(project, plan, project_plans.IMPORT, triggered_by)).build.id)

    async def _register(self, source: str, name: str | None, target: str | None, branch: str | None) -> Imported:
        if source.startswith("-") or not source or any(ord(letter) < 32 for letter in source) or branch is not None:
            raise BadInput(
                *(("branch", "is for a Git URL: a folder is built as it is") if branch else ("source", "is no folder"))
            )
        folder = await asyncio.to_thread(references.real_path, source)
        if not await asyncio.to_thread(references.is_folder, folder):
            raise BadInput("source", f"{source[:200]!r} is neither a folder of this machine nor a Git URL")
        store, now = await self._orchestrator.store(), self._orchestrator.clock.now()
        given = name or git_source.name_of(folder)
        project = await store.write(
            lambda c: projects.import_project(
                c, path=folder, name=given, source=folder, status="active", target=target, branch=None, now=now
            )
        )
        return Imported(project, None)

    def _reach(self, public: bool) -> project_plans.Reach:
        return self._orchestrator.config.security.project_hosts if public else None

    async def _check(self, url: str, *, public: bool) -> None:
        named = self._orchestrator.config.security.project_hosts
        _, host, port = git_source.checked_url(url, named)
        if public:
            await git_source.check_public(host, port, named)

    async def sync(
        self, project: str, *, build: bool = False, public: bool = False, triggered_by: str = "manual"
    ) -> Started:
        """Bring a clone to what its origin has, by fast-forward only; with `build`, build it then.

        Conflict: it is no clone of ours, whose folder is its user's, or was never cloned to the end.
        """
        orchestrator = self._orchestrator
        await orchestrator.refresh()
        found = await orchestrator.find_project(project)
        if not self.is_clone(found):
            raise Conflict(f"project {found.name} is the folder {found.path}: only what was cloned here is synced")
        if found.status != "active":
            raise Conflict(f"project {found.name} is {found.status}: import it again")
        await self._check(found.source or "", public=public)
        stage = project_plans.update(found.path, reach=self._reach(public))
        stages = [stage]
        if build and not await asyncio.to_thread(_is_firmware, Path(found.path)):
            plan = project_plans.decided_behind(stage, found.path, Expansion(target=found.target))
            return await self._start(found, plan, project_plans.SYNC, triggered_by)
        if build:
            order = await orchestrator.order_build(found.path, target=found.target, clean=False, host="local")
            stages += [one.model_copy(update={"depends_on": (stage.name,)}) for one in order.plan.stages]
        return await self._start(found, Plan(stages=tuple(stages)), project_plans.SYNC, triggered_by, beside=not build)

    async def build(
        self,
        ask: WorkflowAsk,
        *,
        commit: str | None = None,
        branch: str | None = None,
        pushed: Pushed | None = None,
        branches: tuple[str, ...] = (),
        triggered_by: str = "manual",
        key: str | None = None,
        priority: int = USUAL,
    ) -> Started:
        """Build a known project; at a commit or branch in a checkout of its own, never in its folder.

        An ESP-IDF project by the workflow, any other by the pipeline of its own `.build-orchestrator.yaml`, as that
        commit has it. What was cloned on another machine of a team is cloned where it is built, and decided there.
        `pushed`: GitHub is told how it goes. `branches`: a push to these ordered it; one of the same
        commit is joined as long as it is open. `key`: once only, whatever becomes of it.
        Conflict: it is not active, its folder is gone, or it is no Git repository and a commit or branch is asked for.
        BadInput: it is no ESP-IDF project, and a board or an agent is asked for; it has no pipeline.
        """
        orchestrator = self._orchestrator
        scopes.need(scopes.of_wish(flash=ask.flash, agent=ask.agent))
        await orchestrator.refresh()
        project = await orchestrator.find_project(ask.project)
        away = await self.check(project)
        if away and (ask.flash or ask.agent is not None or (commit is None and branch is None)):
            raise Conflict(
                f"the clone of project {project.name} is on another machine: order that there; from here it is built "
                "at a commit or branch, without a board and without an agent"
            )
        # Not the plan: what its target is may be known only after the first build.
        who = ["pushed"] if pushed or branches else []
        wish = [dataclasses.asdict(ask) | {"project": project.id}, commit, None if branches else branch, *who]
        asked = json.dumps(wish, sort_keys=True)
        ask = dataclasses.replace(ask, project=project.path, target=ask.target or project.target)
        firmware = not away and await asyncio.to_thread(_is_firmware, Path(project.path))
        if not firmware and not away:
            _check_own(ask)
        if commit is None and branch is None:
            if not firmware:
                return await self._by_its_own(project, triggered_by, priority, key)
            order = await orchestrator.workflows.order(ask)
            return await orchestrator.start(order, triggered_by, agreed=True, priority=priority, key=key)
        at = await self._checkout(project, commit, branch, away=away)
        if firmware:
            order = await orchestrator.workflows.order(ask)
            plan = project_plans.checked_out(order.plan, at)
        else:
            wanted = Expansion(target=ask.target, qemu=ask.qemu)
            plan = project_plans.decided_behind(at.stage(), project.path.replace(at.top, at.folder, 1), wanted)
            order = Order(project.path, plan, OWN, project.name, ask.target)
        plan = plan.model_copy(update={"order": asked, "pushed": pushed, "branches": branches})
        order = dataclasses.replace(order, plan=plan)
        started = await orchestrator.start(order, triggered_by, agreed=True, priority=priority, key=key)
        if started.joined:
            return started
        number, facts = started.build.id, {"commit_sha": commit or "", "branch": branch}
        await (await orchestrator.store()).write(lambda c: builds.set_facts(c, number, **facts))
        return Started(started.build.model_copy(update=facts), False)

    async def check(self, project: Project) -> bool:
        """Conflict: it cannot be built now. Whether it is a clone that only other machines of a team have."""
        if project.status != "active":
            why = f": {project.reason}" if project.reason else ""
            raise Conflict(f"Project status is {project.status!r}, must be 'active'{why}")
        if await asyncio.to_thread(Path(project.path).is_dir):
            return False
        if not self.is_clone(project) or not (await self._orchestrator.store()).is_shared:
            raise Conflict(f"the folder of project {project.name} is gone: {project.path}")
        return True

    async def _checkout(
        self, project: Project, commit: str | None, branch: str | None, *, away: bool
    ) -> project_plans.Checkout:
        """Conflict: it is no Git repository. BadInput: no such branch can be."""
        if branch is not None:
            git_source.checked_branch(branch)
        top = project.path if away else await asyncio.to_thread(_repository, project)
        folder = str(self._orchestrator.config.worktrees_dir.resolve() / f"project-{project.id[:8]}")
        clone = self.is_clone(project)
        for_others = away or (clone and await asyncio.to_thread(_of_others, project))  # who asked for it is not known
        url = project.source if clone and top == project.path else None
        return project_plans.Checkout(top, folder, commit, branch, clone, self._reach(for_others), url)

    async def _by_its_own(self, project: Project, triggered_by: str, priority: int, key: str | None) -> Started:
        """Run the pipeline that a project's folder has. NotAgreed: it flashes or pushes, and nobody was asked."""
        file = await asyncio.to_thread(find_project_file, Path(project.path))
        if file is None:
            raise BadInput("project", f"{project.path} is no ESP-IDF project and has no {NAMES[0]}")
        pipeline = await self._orchestrator.read_pipeline(path=str(file))
        return await self._orchestrator.start_pipeline(
            pipeline, Path(project.path), triggered_by=triggered_by, priority=priority, key=key
        )

    async def _start(
        self, project: Project, plan: Plan, name: str, triggered_by: str, *, beside: bool = True
    ) -> Started:
        """`beside`: it only brings the project here, so it runs beside what the limits count."""
        return await self._orchestrator.start_plan(
            project.path,
            plan,
            name=name,
            target=project.target,
            triggered_by=triggered_by,
            project_name=project.name,
            priority=project_plans.BESIDE if beside else USUAL,
        )

    def is_clone(self, project: Project) -> bool:
        """Whether its folder is one that we made of a Git URL."""
        ours = Path(project.path).parent == self._orchestrator.config.projects_dir
        return ours and project.source is not None and git_source.is_url(project.source)

    async def remove(self, project: str, *, delete: bool = False, unpushed: bool = False) -> str:
        """Forget a project, one sentence about what is gone and what stays; `delete` takes away a clone's folder, too.

        `unpushed`: also where it holds commits or changes that are nowhere else, or git cannot read it any more.
        Conflict: a build of it is open, or the folder to delete is its user's. Unpushed: it would lose something.
        """
        found = await self._orchestrator.find_project(project)
        if delete and not self.is_clone(found):
            raise Conflict(f"{found.path} was not cloned here: its folder is not deleted")
        store = await self._orchestrator.store()
        if delete and not unpushed:
            # A build that is open may commit while git looks; one that begins later is not over by then.
            await store.read(lambda c: projects.check_no_open_build(c, found.id))
            await only_here.check_nothing_lost(Path(found.path), self._orchestrator.environment)
        gone = await store.write(lambda c: projects.remove_project(c, found.id))
        said = [f"its folder {found.path} stays"]
        if delete:
            why = await asyncio.to_thread(_delete, Path(found.path))
            said = [f"its folder {found.path} {f'could not be deleted ({why})' if why else 'is deleted'}"]
        checkout = self._orchestrator.config.worktrees_dir / f"project-{found.id[:8]}"
        if why := await asyncio.to_thread(_delete, checkout):
            said.append(f"its checkout {checkout} could not be deleted ({why})")
        said.append("it had no builds" if gone else "the records of its builds stay")
        return f"project {found.name} is removed: {', '.join(said)}"


def _is_firmware(folder: Path) -> bool:
    """Whether ESP-IDF builds it; also where its CMakeLists.txt leaves that open and there is no other way. Reads."""
    return is_project(folder) or ((folder / "CMakeLists.txt").is_file() and find_project_file(folder) is None)


def _check_own(ask: WorkflowAsk) -> None:
    """BadInput: what is asked for is the workflow's, and the project is built by a pipeline of its own."""
    for name, asked in (("flash", ask.flash), ("agent", ask.agent is not None), ("expect", bool(ask.expect))):
        if asked:
            raise BadInput(name, "is for ESP-IDF projects: any other is built as its own pipeline says")


def _of_others(project: Project) -> bool:
    """Whether a clone was asked for by somebody elsewhere, so that its origin is to stay a public one. Reads."""
    try:
        text = (Path(project.path) / ".git" / "config").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return bool(_FOR_OTHERS.search(text))


def _repository(project: Project) -> str:
    """The top of the work tree that a project is in. Conflict: there is none. Reads."""
    folder = Path(project.path)
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return str(place)
    raise Conflict(f"project {project.name} is no Git repository: it has no commits or branches to build")


def _delete(folder: Path) -> str:
    """Delete a folder, as much of it as can be; "" where it is gone, else why not, by the first thing that stayed."""
    failed: list[str] = []

    def note(_: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        why = error[1]
        if not isinstance(why, FileNotFoundError):
            failed.append(f"{path}: {why.strerror if isinstance(why, OSError) and why.strerror else why}")

    shutil.rmtree(folder, onerror=note)  # pyright: ignore[reportDeprecated]  # `onexc` came with Python 3.12
    return failed[0] if failed else ""
