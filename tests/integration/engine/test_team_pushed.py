"""Pushes of a project whose clone another machine of the team has."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_server.config import load_config
from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus, StageStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import projects
from mcp_server.workflows import WorkflowAsk
from tests.support.git_tree import UserTree, begun, git_daemon
from tests.support.team import Team
from tests.support.workers import end_everything

IN_TIME = 60
OWN = "pipeline:\n  name: own\n  stages: [{name: one, command: 'test -f main/main.c'}]\n"


@pytest.fixture
def origin(tmp_path: Path) -> UserTree:
    tree = begun(tmp_path / "served" / "me" / "lamp", tmp_path / "user")
    tree.write(".build-orchestrator.yaml", OWN)
    tree.commit("own")
    return tree


@pytest.fixture
def source(tmp_path: Path, origin: UserTree) -> Iterator[str]:
    with git_daemon(tmp_path / "served") as port:
        yield f"git://127.0.0.1:{port}/me/lamp/.git"


@pytest_asyncio.fixture
async def front(team: Team, source: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Orchestrator]:
    """A service on a machine that has not got the clone of `lamp`; nor has the worker that it starts."""
    host = source.split("/")[2]
    team.config += f"security: {{{{project_hosts: ['{host}']}}}}\nwebhooks: {{{{github: {{{{secret: x}}}}}}}}\n"
    for name, value in team.environment(0).items():
        monkeypatch.setenv(name, value)
    orchestrator = Orchestrator(load_config())
    store, now = await orchestrator.store(), orchestrator.clock.now()
    facts: dict[str, Any] = {"name": "lamp", "source": source, "status": "active", "target": None, "branch": None}
    path = str(team.home(0) / "projects" / "lamp")
    await store.write(lambda c: projects.import_project(c, path=path, now=now, **facts))
    yield orchestrator
    await orchestrator.aclose()
    end_everything(team.home(0))


async def test_a_push_is_taken_by_a_machine_without_the_clone_and_built_where_it_is_cloned(
    front: Orchestrator, origin: UserTree, source: str
) -> None:
    """Ours. What builds it is decided where its files are."""
    commit = origin.git("rev-parse", "HEAD")
    repository = {"full_name": "me/lamp", "clone_url": source}
    payload = {"ref": "refs/heads/main", "after": commit, "repository": repository}
    said = await front.webhooks.pushed("d-1", payload, json.dumps(payload).encode())
    await front.webhooks.settled()
    [build] = await front.list()
    view = await front.wait(build.id, IN_TIME)

    assert (said, view.build.status) == ("accepted", BuildStatus.SUCCESS), view.build.build_output
    assert (view.build.commit_sha, view.build.branch, view.build.triggered_by) == (commit, "main", "push")
    assert view.build.place == f"home:{front.config.home}"
    assert [(row.stage, row.status) for row in view.stages] == [
        ("checkout", StageStatus.SUCCESS),
        ("one", StageStatus.SUCCESS),
    ]
    assert (front.config.projects_dir / "lamp" / ".git").is_dir()


async def test_what_needs_the_clone_itself_is_refused_with_where_it_is(front: Orchestrator) -> None:
    """Ours."""
    said = "the clone of project lamp is on another machine: order that there; from here it is built at a commit or"
    for ask, at in ((WorkflowAsk("lamp"), None), (WorkflowAsk("lamp", flash=True), "main")):
        with pytest.raises(Conflict, match=said):
            await front.projects.build(ask, branch=at)
