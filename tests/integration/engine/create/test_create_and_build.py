"""Builds that bots order: from the order to the callback, over a real worker, real Git and a scripted agent."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from mcp_server.build_spec import BuildSpec
from mcp_server.config import load_config
from mcp_server.demo.place import fix_patch, lay_out
from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from tests.support.bot_orders import Order, built, callback, diff, hook, result_of, summaries, template, user_of
from tests.support.git_tree import UserTree, begun
from tests.support.http_peer import Peer, answer
from tests.support.workers import worker_inside

pytestmark = pytest.mark.worker_inside

# -- the whole way ---------------------------------------------------------------------------------------------------


async def test_an_order_is_made_built_committed_delivered_and_called_back(
    orchestrator: Orchestrator, order: Order, receiver: Peer, home: Path, tmp_path: Path
) -> None:
    """Seed. All fields of the result are true."""
    async with asyncio.timeout(40):
        started = await orchestrator.workflows.create(order(auto_commit=True, callback_url=hook(receiver)))
        told = await callback(receiver, home)
    view = await orchestrator.get(started.build.id)

    project = user_of(home / "projects/page", tmp_path)
    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert [row.stage for row in view.stages] == ["create", "work", "check", "commit", "deliver"]
    assert (told["task_id"], told["project_id"], told["status"]) == (
        started.build.task_id,
        started.build.project_id,
        "completed",
    )
    result = told["result"]
    assert (result["success"], result["error"], result["files_changed"]) == (True, None, ["page.txt"])
    assert result["commit_sha"] == result["artifacts"]["commit_sha"] == project.git("rev-parse", "main")
    assert result["artifacts"]["branch"] == f"bo/build-{started.build.id}"
    assert view.build.duration is not None
    assert abs(result["duration_ms"] - view.build.duration * 1000) < 2
    assert "work: " in result["output"]
    assert (project.top / "page.txt").read_text() == "good day\n"
    assert project.git("status", "--porcelain") == ""
    assert project.git("log", "--format=%s") == "Make the page good\nMade from a template"
    assert f"-{started.build.id}" in project.git("log", "-1", "--format=%(trailers:key=Build)")
    assert len(receiver.got) == 1


async def test_without_a_commit_the_project_has_the_changes_and_no_commit(
    orchestrator: Orchestrator, order: Order, home: Path, tmp_path: Path
) -> None:
    """Issue."""
    view = await built(orchestrator, order())

    project = user_of(home / "projects/page", tmp_path)
    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert (project.top / "page.txt").read_text() == "good day\n"
    assert project.git("log", "--format=%s") == "Made from a template"
    assert project.git("status", "--porcelain") == " M page.txt"


async def test_first_work_that_does_not_build_is_mended_in_the_next_round(
    orchestrator: Orchestrator, order: Order, home: Path, tmp_path: Path
) -> None:
    """Issue. One commit is made of all rounds."""
    folder = tmp_path / "diffs"
    diff(folder / "1.diff", "page.txt", "bad day\n", "worse day\n")
    diff(folder / "2.diff", "page.txt", "worse day\n", "good day\n")
    view = await built(orchestrator, order(agent=f"patch:{folder}", auto_commit=True))

    project = user_of(home / "projects/page", tmp_path)
    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert [(row.stage, row.round) for row in view.stages if row.kind.startswith("agent.")] == [("work", 1), ("fix", 1)]
    assert view.build.round == 2
    assert project.git("log", "--format=%s") == "Make the page good\nMade from a template"
    assert (project.top / "page.txt").read_text() == "good day\n"


async def test_the_order_returns_before_anything_is_made(orchestrator: Orchestrator, order: Order, home: Path) -> None:
    """Seed. 100 ms at most, once the front has opened its home; the fastest of three, as others use this machine."""
    took: list[float] = []
    await built(orchestrator, order(name="first"))
    for number in range(3):
        began = time.perf_counter()
        started = await orchestrator.workflows.create(order(name=f"page{number}"))
        took.append(time.perf_counter() - began)
        assert started.build.status is BuildStatus.PENDING
        await orchestrator.cancel(started.build.id)
    assert min(took) < 0.1, took


# -- what decides how it is built ------------------------------------------------------------------------------------


async def test_where_nothing_says_how_to_build_the_record_says_so(
    orchestrator: Orchestrator, order: Order, tmp_path: Path, home: Path
) -> None:
    """Issue. The agent's and Git's stages run all the same."""
    plain = template(tmp_path / "plain", {"project/.build-orchestrator.yaml.jinja": None})
    view = await built(orchestrator, order(template=plain, auto_commit=True))

    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    [skipped] = [spec for spec in view.build.plan.stages if spec.skip]
    assert skipped.skip.startswith("nothing was built")
    events = await orchestrator.newest_events(view.build.id, 100)
    assert any("nothing was built" in str(event.data) for event in events)
    assert "nothing was built" in result_of(view).output
    assert (home / "projects/page/page.txt").read_text() == "good day\n"


async def test_firmware_is_built_by_the_stages_of_a_workflow(orchestrator: Orchestrator, tmp_path: Path) -> None:
    """Issue. In a copy: the project itself is as it was, and a branch has the commit."""
    project = UserTree(lay_out(tmp_path / "firmware"), tmp_path)
    project.git("init", "-q", "-b", "main")
    project.commit("as it came")
    (tmp_path / "fix.diff").write_text(fix_patch())
    before = project.everything(but="bo/build-1")

    spec = BuildSpec(
        prompt="Mend it",
        project=str(project.top),
        agent=f"patch:{tmp_path / 'fix.diff'}",
        auto_commit=True,
        expect=("SELF TEST PASSED",),
    )
    view = await built(orchestrator, spec)

    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert {"work", "setup", "build", "qa", "commit"} <= {row.stage for row in view.stages}
    assert project.everything(but="bo/build-1") == before
    assert project.git("log", "--format=%s", "bo/build-1") == "Mend it\nas it came"


async def test_a_pipeline_of_the_project_flashes_no_board_and_pushes_nothing_unasked(
    orchestrator: Orchestrator, order: Order, tmp_path: Path, home: Path
) -> None:
    """Ours. What a template brings along is nobody's yes."""
    (home / "config.yaml").write_text("security: {allow_push: ask}\n")
    push = "    - {name: send, uses: git.push, with: {branch: x, remote: 'https://x.org'}}\n"
    flashes = f"pipeline:\n  name: f\n  stages:\n    - {{name: flash, uses: idf.flash, with: {{project: fw}}}}\n{push}"
    firmware = "cmake_minimum_required(VERSION 3.16)\ninclude($ENV{IDF_PATH}/tools/cmake/project.cmake)\nproject(fw)\n"
    files = {"project/.build-orchestrator.yaml.jinja": flashes, "project/fw/CMakeLists.txt": firmware}
    place = template(tmp_path / "flashes", files)
    view = await built(orchestrator, order(template=place))

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "invalid")
    assert "nobody was asked for: Write fw to the connected board; Push branch x of" in (view.build.build_output or "")


# -- push and CI -----------------------------------------------------------------------------------------------------


# -- keys ------------------------------------------------------------------------------------------------------------


async def test_one_order_under_one_key_is_one_build(orchestrator: Orchestrator, order: Order, home: Path) -> None:
    """Issue. Also once it is over, whatever has changed meanwhile."""
    first = await orchestrator.workflows.create(order(idempotency_key="k-1"))
    joined = await orchestrator.workflows.create(order(idempotency_key="k-1", priority=3))
    with pytest.raises(Conflict, match="another order"):
        await orchestrator.workflows.create(order(idempotency_key="k-1", prompt="Something else"))
    async with asyncio.timeout(30):
        view = await orchestrator.wait(first.build.id, 30)
    (home / "config.yaml").write_text('ci: {woodpecker: {url: "http://127.0.0.1:1", token: t}}\n')
    after = await orchestrator.workflows.create(order(idempotency_key="k-1"))

    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert (joined.joined, after.joined) == (True, True)
    assert first.build.task_id == joined.build.task_id == after.build.task_id
    assert after.build.status is BuildStatus.SUCCESS
    assert len(await orchestrator.list()) == 1


async def test_an_order_keeps_its_urgency(orchestrator: Orchestrator, order: Order) -> None:
    """Ours. 0 is first: by that slots and directories are given away."""
    started = await orchestrator.workflows.create(order(priority=1))
    assert started.build.priority == 1


# -- callbacks of every end ------------------------------------------------------------------------------------------


async def test_every_end_is_called_back(
    orchestrator: Orchestrator, order: Order, receiver: Peer, home: Path, tmp_path: Path
) -> None:
    """Issue. A failure with its first error, an order that cannot be built, a cancelled one."""
    never = diff(tmp_path / "never.diff", "page.txt", "bad day\n", "worse day\n")
    invalid = template(tmp_path / "invalid", {"project/.build-orchestrator.yaml.jinja": "pipeline: {stages: 3}\n"})
    common = {"callback_url": hook(receiver), "max_rounds": 1}
    async with asyncio.timeout(60):
        await orchestrator.workflows.create(order(name="a", agent=f"patch:{never}", **common))
        failed = (await callback(receiver, home))["result"]
        await orchestrator.workflows.create(order(name="b", template=invalid, **common))
        refused = await callback(receiver, home)
        started = await orchestrator.workflows.create(order(name="c", **common))
        await orchestrator.cancel(started.build.id)
        cancelled = await callback(receiver, home)

    assert failed["success"] is False
    assert failed["error"].startswith("stage check: page.txt:1")
    assert failed["commit_sha"] is None
    assert refused["status"] == "failed"
    assert "stages" in refused["result"]["error"]
    assert (cancelled["status"], cancelled["result"]["error"]) == ("cancelled", "cancelled")
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 3


async def test_a_receiver_that_was_away_is_called_by_whoever_comes_next(
    home: Path, order: Order, receiver: Peer
) -> None:
    """Issue. A front that only looks starts the worker that delivers what another could not."""
    receiver.answers = [answer(500), answer(200)]
    first = Orchestrator(load_config())
    async with worker_inside(home), asyncio.timeout(40):
        await first.workflows.create(order(callback_url=hook(receiver)))
        await callback(receiver, home)
        await first.aclose()
    assert len(receiver.got) == 1

    second = Orchestrator(load_config())
    async with worker_inside(home), asyncio.timeout(40):
        await second.list()
        told = await callback(receiver, home)
        await second.aclose()

    assert told["status"] == "completed"
    assert receiver.got[0].body == receiver.got[1].body


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no commits", "detached", "dirty index", "no repository"])
async def test_a_project_in_any_state_is_worked_on_in_a_copy(
    orchestrator: Orchestrator, order: Order, tmp_path: Path, kind: str
) -> None:
    """Issue. Its files, index and HEAD are as they were; a branch, or the copy, has the commit."""
    tree = begun(tmp_path / "mine", tmp_path)
    if kind in ("no commits", "no repository"):
        shutil.rmtree(tree.top / ".git")
    if kind == "no commits":
        tree.git("init", "-q", "-b", "main")
    tree.write("page.txt", "bad day\n")
    if kind == "detached":
        tree.commit("a page")
        tree.git("checkout", "-q", "--detach")
    if kind == "dirty index":
        tree.git("add", "page.txt")
        tree.write("page.txt", "bad day\n")
    before = tree.everything(but="bo/build-1")
    view = await built(
        orchestrator, order(template=None, name=None, variables={}, project=str(tree.top), auto_commit=True)
    )

    assert view.build.status is BuildStatus.SUCCESS, summaries(view)
    assert tree.everything(but="bo/build-1") == before
    [worked] = [row for row in view.stages if row.kind == "agent.work"]
    assert worked.resolved is not None
    copy = UserTree(Path(worked.resolved["folder"]), tmp_path)
    assert (copy.top / "page.txt").read_text() == "good day\n"
    assert copy.git("log", "-1", "--format=%s") == "Make the page good"


async def test_an_agent_that_changes_nothing_ends_the_build(
    orchestrator: Orchestrator, order: Order, tmp_path: Path, home: Path
) -> None:
    """Issue. Nobody mends that, and nothing is committed; the new project stays as its template makes it."""
    unfit = diff(tmp_path / "unfit.diff", "page.txt", "quite another page\n", "good day\n")
    view = await built(orchestrator, order(agent=f"patch:{unfit}", auto_commit=True))

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "agent")
    assert [row.stage for row in view.stages] == ["create", "work"]
    assert (home / "projects/page/page.txt").read_text() == "bad day\n"
