"""Broken firmware mended by real clients through the whole workflow: compiled, run, committed on its branch."""

import asyncio
import importlib.util
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_server.agents import claude
from mcp_server.agents.opencode_rules import PASSWORD
from mcp_server.config import load_config
from mcp_server.demo.place import SELF_TEST_PASSED, lay_out
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from mcp_server.workflows import WorkflowAsk
from tests.support import fix_loop
from tests.support.claude_client import CLAUDE
from tests.support.fix_loop import fix_of, story
from tests.support.git_tree import UserTree, begun
from tests.support.opencode_client import (
    NOWHERE,
    OPENCODE,
    opencode_environment,
    opencode_server,
    opencode_settings,
)
from tests.support.scripted_model import Edit, Move, Read, Say, ScriptedModel, Use
from tests.support.workers import end_everything, worker_inside

pytestmark = pytest.mark.timeout(150)
NO_OPENCODE = pytest.mark.skipif(not OPENCODE, reason="no opencode: BO_TEST_OPENCODE or PATH should name one")


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


SOURCE = "main/thermostat.c"
MEND: Sequence[Move] = (Read(SOURCE), Edit(SOURCE, "valve_opne", "valve_open"), Say("mended"))
TOOL = "str_replace_based_edit_tool"
PLANT = Use(TOOL, {"command": "create", "path": "build/planted.elf", "file_text": "as if built"})
BESIDE = {"sdkconfig", ".git/opencode"}
"""New in the user's tree: the first round builds there, and OpenCode keeps its own name of a repository in it."""

KEY = "sk-ant-api03-very-secret"


@dataclass
class Place:
    """Where a story plays: the model that is asked, the user's project, a folder for the client's own files."""

    model: ScriptedModel
    project: Path
    own: Path


@asynccontextmanager
async def by_claude(place: Place) -> AsyncGenerator[dict[str, Any]]:
    env = {
        **{"ANTHROPIC_BASE_URL": place.model.url, "ANTHROPIC_API_KEY": KEY, "CLAUDE_CONFIG_DIR": str(place.own)},
        **{"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1", "CLAUDE_CODE_MAX_RETRIES": "1"},
    }
    yield {"env": env}


@asynccontextmanager
async def by_acp(place: Place) -> AsyncGenerator[dict[str, Any]]:
    (place.project / "opencode.json").write_text(opencode_settings(place.model))
    environment = opencode_environment(place.own)
    yield {
        "acp": [OPENCODE, "acp"],
        "env": {name: value for name, value in environment.items() if name not in ("PATH", "LANG", "TMPDIR")},
    }


@asynccontextmanager
async def by_http(place: Place) -> AsyncGenerator[dict[str, Any]]:
    (place.project / "opencode.json").write_text(opencode_settings(place.model))
    environment = opencode_environment(place.own) | {PASSWORD: "s3cret"}
    async with opencode_server(place.own, environment) as url:
        yield {"url": url, "password": "s3cret"}


@asynccontextmanager
async def by_sdk(place: Place) -> AsyncGenerator[dict[str, Any]]:
    yield {"url": place.model.url, "env": {"ANTHROPIC_API_KEY": KEY}}


def path_for(client: object) -> str:
    """PATH with a `claude` on it where the SDK brings none."""
    if client is not by_claude or claude._bundled() is not None:
        return os.environ["PATH"]
    if not CLAUDE:
        pytest.skip("no claude CLI: BO_TEST_CLAUDE")
    return f"{Path(CLAUDE).parent}{os.pathsep}{os.environ['PATH']}"


@asynccontextmanager
async def worker(home: Path, agents: dict[str, Any]) -> AsyncGenerator[Orchestrator]:
    """The home's orchestrator, with these agents."""
    (home / "config.yaml").write_text(json.dumps({"agents": agents}))
    orchestrator = Orchestrator(load_config())
    try:
        async with worker_inside(home):
            yield orchestrator
            await orchestrator.aclose()
    finally:
        end_everything(home)


async def worktree(orchestrator: Orchestrator) -> Path:
    """Where the first build of a home is mended."""
    return orchestrator.config.worktrees_dir / f"{await (await orchestrator.store()).uuid()}-1"


@pytest.mark.parametrize(
    ("name", "client", "script", "denied"),
    [
        pytest.param("claude", by_claude, MEND, 0, marks=needs("claude_agent_sdk")),
        pytest.param("opencode", by_acp, MEND, 0, marks=(NO_OPENCODE, needs("acp"))),
        pytest.param("far", by_http, MEND, 0, marks=NO_OPENCODE),
        pytest.param("anthropic", by_sdk, (PLANT, *MEND), 1, marks=needs("anthropic")),
    ],
    ids=["claude", "opencode acp", "opencode http", "anthropic"],
)
async def test_real_client_mends_the_demo_and_the_compiler_judges(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    client: Any,
    script: Sequence[Move],
    denied: int,
) -> None:
    """Issue. The model is a script; the client, its edit, the worktree, the build and the run are real."""
    monkeypatch.setenv("PATH", path_for(client))
    (tmp_path / "user/.gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    project = lay_out(tmp_path / "greenhouse")
    tree = UserTree(project, tmp_path / "user")
    (own := tmp_path / "client").mkdir()
    with ScriptedModel(script) as model:
        async with asyncio.timeout(140), client(Place(model, project, own)) as settings:
            tree.git("init", "-q", "-b", "main")
            tree.commit("as it is")
            before = tree.everything(but="bo/fix-1")
            async with worker(home, {name: settings}) as orchestrator:
                place = await worktree(orchestrator)
                model.folder = str(place)
                started = await orchestrator.workflows.run(
                    WorkflowAsk(str(project), agent=name, expect=(SELF_TEST_PASSED,))
                )
                view = await orchestrator.wait(started.build.id, 130)
                log = (await orchestrator.log(started.build.id, "fix")).text

    assert view.build.status is BuildStatus.SUCCESS, log
    assert [row for row in story(view) if row.split()[1] in ("build", "fix", "qemu")] == [
        *("1 build failed", "1 qemu skipped", "1 fix success", "2 build success", "2 qemu success")
    ]
    fix = fix_of(view)
    assert fix["files_changed"] == [SOURCE], log
    assert ("# opencode.json: put back" in log) == (place / "opencode.json").exists()  # a `$schema`, by its start
    assert fix.get("denied", 0) == denied, log
    assert not (place / "build/planted.elf").exists()
    committed = tree.git("log", "-1", "--format=%H %an <%ae>%n%s", "bo/fix-1").splitlines()
    assert committed == [f"{fix['commit_sha']} Ada <ada@example.org>", "fix: round 1 of build 1"]
    assert tree.git("diff", "--name-only", "bo/fix-1~1..bo/fix-1") == SOURCE
    after = tree.everything(but="bo/fix-1")
    assert {path: after.get(path) for path in before} == before
    assert {path for path in after.keys() - before if not path.startswith("build/")} <= BESIDE


async def test_claim_of_success_without_a_change_is_no_change(home: Path, tmp_path: Path) -> None:
    """Issue: claims success without a diff. The real SDK, in its own job; nothing is built after it."""
    pytest.importorskip("anthropic")
    tree = begun(tmp_path / "project", tmp_path / "user")
    with ScriptedModel([Read("main/main.c"), Say("All mended, it builds now!")]) as model:
        settings = {"url": model.url, "env": {"ANTHROPIC_API_KEY": KEY}}
        async with worker(home, {"anthropic": settings}) as orchestrator:
            view = await fix_loop.run(orchestrator, tree, fix_loop.plan(tree.top, agent="anthropic"))

    assert story(view) == ["1 build failed", "1 fix failed"]
    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "no_change")
    assert said(view) == "anthropic changed nothing, and said: All mended, it builds now!"
    assert tree.git("rev-list", "--count", "main..bo/fix-1") == "1"  # the tree as it was, and nothing more


def said(view: BuildView) -> str:
    """The last stage's verdict in one sentence."""
    verdict = view.stages[-1].verdict
    return verdict.summary if verdict else ""
