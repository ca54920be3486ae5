"""The fix loop through a worker: the real job of an agent that speaks its protocol, a real worktree, a real build."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.errors import Conflict
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.views import BuildView
from tests.support import fix_loop
from tests.support.extras import need
from tests.support.faults import kill_jobs, processes_with
from tests.support.fix_loop import agent, diff, fix_of, mend, plan, run, story
from tests.support.git_tree import UserTree, begun

need("acp")
pytestmark = [pytest.mark.worker_inside, pytest.mark.timeout(60)]


@pytest.fixture(autouse=True)
def no_timer_left(home: Path) -> Iterator[None]:
    """The timer of a killed supervisor still waits for the end of its job's time."""
    yield
    for pid in processes_with(str(home / "jobs")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def tree(tmp_path: Path) -> UserTree:
    return begun(tmp_path / "project", tmp_path / "user")


def worktree(view: BuildView) -> Path:
    rows = [row for row in view.stages if row.stage == "fix"]
    return Path((rows[-1].resolved or {})["folder"])


async def test_two_rounds_mend_two_mistakes_and_the_users_tree_is_untouched_until_asked(
    orchestrator: Orchestrator, tree: UserTree, tmp_path: Path
) -> None:
    """Issue. A branch with a commit a round; files, index, HEAD to the byte as they were; applied when asked."""
    tree.write("main/new.c", "// not added\n")
    tree.write("test/test_main.c", 'TEST_CASE("a", "[m]")\n{\n    TEST_ASSERT_EQUAL(2, one());\n}\n')
    tree.git("add", "test")
    diff(tmp_path / "diffs", "1.diff", 1, 2)
    diff(tmp_path / "diffs", "2.diff", 2, 3)
    before = tree.everything(but="bo/fix-1")

    build = f"[ -d .git ] || echo x | tee main/made.c >> .gitignore; {fix_loop.BUILD}"
    view = await run(orchestrator, tree, plan(tree.top, agent=f"patch:{tmp_path / 'diffs'}", build=build))

    assert story(view) == ["1 build failed", "1 fix success", "2 build failed", "2 fix success", "3 build success"]
    assert (view.build.status, view.build.round) == (BuildStatus.SUCCESS, 3)
    assert tree.everything(but="bo/fix-1") == before
    shas = [fix_of(view, number)["commit_sha"] for number in (0, 1)]
    log = tree.git("log", "--format=%H", "-3", "bo/fix-1").splitlines()
    assert log[:2] == shas[::-1]
    assert tree.git("show", "bo/fix-1:main/new.c") == "// not added"
    assert "+    return 2;" in fix_of(view, 0)["diff"] and "+    return 3;" in fix_of(view, 1)["diff"]

    assert list((orchestrator.config.worktrees_dir / "tasks").iterdir()) == []  # a prompt may hold anything

    # What the build itself changed in the copy is no part of it.
    assert await orchestrator.workflows.apply(view.build.id) == ("main/main.c",)
    after = tree.everything(but="bo/fix-1")
    assert "return 3" in (tree.top / "main/main.c").read_text()
    assert {name for name in after if after[name] != before.get(name)} == {"main/main.c"}


async def test_the_loop_ends_at_its_rounds(orchestrator: Orchestrator, tree: UserTree, tmp_path: Path) -> None:
    """Issue: at most max_rounds."""
    diff(tmp_path / "diffs", "1.diff", 1, 2)
    view = await run(orchestrator, tree, plan(tree.top, agent=f"patch:{tmp_path / 'diffs'}", rounds=2))

    assert story(view) == ["1 build failed", "1 fix success", "2 build failed"]
    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "exit")
    with pytest.raises(Conflict, match="only what was proved"):
        await orchestrator.workflows.apply(view.build.id)


@pytest.mark.parametrize(
    ("step", "rounds"),
    [(("sh", "date +%N >> main/useless.h"), 1), (("sh", "sed -i 'y/12/21/' main/main.c"), 2)],
    ids=["changes something useless", "brings back what was mended"],
)
async def test_the_same_first_cause_again_is_no_progress(
    orchestrator: Orchestrator, tree: UserTree, home: Path, step: tuple[str, str], rounds: int
) -> None:
    """Issue: no progress (same first cause twice)."""
    agent(home, [step])
    view = await run(orchestrator, tree, plan(tree.top, rounds=9))

    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "no_progress")
    assert [row.round for row in view.stages if row.stage == "fix"] == list(range(1, rounds + 1))


@pytest.mark.parametrize(
    ("steps", "reason", "said"),
    [
        ([("say", "All done, everything works!")], "no_change", "scripted changed nothing, and said: All done"),
        ([mend(1, 3), ("sh", "git rm -q test/test_main.c")], "outside", "test/test_main.c: a test file was deleted"),
        ([mend(1, 3), ("sh", "echo x > .woodpecker.yaml")], "outside", ".woodpecker.yaml: among the forbidden paths"),
        ([mend(1, 3), ("sh", "ln -s /etc main/etc")], "outside", "main/etc: a link that leads out"),
        ([("exit", 3)], "agent", "scripted"),
        ([("stop", "refusal")], "agent", ""),
    ],
    ids=["claims success", "deletes a test", "edits its judge", "leads out", "dies", "refuses"],
)
async def test_what_an_agent_did_ends_the_build_with_the_reason(
    orchestrator: Orchestrator, tree: UserTree, home: Path, steps: fix_loop.Steps, reason: str, said: str
) -> None:
    """Issue: bad input, each a test. Nothing is built after it, and what it left is taken back."""
    agent(home, steps)
    view = await run(orchestrator, tree, plan(tree.top))

    assert story(view) == ["1 build failed", "1 fix failed"]
    fix = view.stages[1]
    assert fix.verdict is not None and said in fix.verdict.summary
    assert (fix.reason, view.build.status, view.build.reason) == (reason, BuildStatus.FAILED, reason)
    assert "return 1" in (worktree(view) / "main/main.c").read_text()
    assert tree.git("rev-list", "--count", "main..bo/fix-1") == "1"  # the tree as it was, and nothing more


ODD = "touch \"$(printf 'main/a\\377\\nb')\"\n"
OWN_GIT = """\
git checkout -q -b mine || git checkout -q --detach
git -c user.name=a -c user.email=a@example.org commit -qam mine
for name in index HEAD refs/heads/bo/fix-1; do touch $(git rev-parse --git-path $name.lock); done
"""


async def test_git_that_an_agent_ran_itself_costs_no_mending(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Ours. A branch of its own, then none, locks of a killed git: the files count, on the build's branch."""
    # No UTF-8, and a control character: it must be possible to keep the name, and to print it.
    agent(home, [("sh", "sed -i 's/return 2/return 3/; s/return 1/return 2/' main/main.c"), ("sh", ODD + OWN_GIT)])
    view = await run(orchestrator, tree, plan(tree.top))

    assert story(view)[1:] == ["1 fix success", "2 build failed", "2 fix success", "3 build success"]
    assert fix_of(view, 0)["files_changed"] == ["main/a\ufffd b", "main/main.c"]
    assert await orchestrator.workflows.apply(view.build.id) == ("main/a\ufffd b", "main/main.c")
    assert tree.git("rev-parse", "bo/fix-1") == fix_of(view)["commit_sha"]
    assert "return 3" in tree.git("show", "bo/fix-1:main/main.c")


async def test_files_that_are_not_allowed_are_outside(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """Issue: the diff touches only allowed paths."""
    agent(home, [mend(1, 3)])
    view = await run(orchestrator, tree, plan(tree.top, allowed=("components/**",)))

    assert view.build.reason == "outside"
    assert view.stages[1].verdict and "not among the allowed paths" in view.stages[1].verdict.summary


async def test_an_edit_of_the_users_own_tree_is_told(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """Issue: agent that edits outside. Nobody can tell whether it was the agent or the user, so it is a note."""
    agent(home, [mend(1, 3), ("sh", f"echo x >> {tree.top}/main/main.c")])
    view = await run(orchestrator, tree, plan(tree.top))

    assert view.build.status is BuildStatus.SUCCESS
    assert fix_of(view)["notes"] == [f"{tree.top} itself changed meanwhile, by a person or by the agent"]


async def test_what_git_ignores_is_put_back(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """Ours. A build that passes by an sdkconfig that no commit has would prove nothing."""
    tree.write("sdkconfig", "CONFIG_A=y\n")
    hide = "echo hidden.h >> .gitignore; mkdir build; touch main/hidden.h main/a.log build/b"
    agent(home, [mend(1, 3), ("sh", f"echo CONFIG_B=y >> sdkconfig; echo x > dependencies.lock; {hide}")])
    view = await run(orchestrator, tree, plan(tree.top, build=f"mkdir -p build; touch main/made.log; {fix_loop.BUILD}"))

    assert view.build.status is BuildStatus.SUCCESS
    folder = worktree(view)
    assert (folder / "sdkconfig").read_text() == "CONFIG_A=y\n"
    assert not [name for name in ("main/hidden.h", "main/a.log", "build/b") if (folder / name).exists()]
    assert (tree.top / "main/made.log").exists()
    notes = fix_of(view)["notes"]
    assert any(note.startswith("sdkconfig was put back") for note in notes)
    assert any(note.startswith("main/a.log, main/hidden.h were taken away") for note in notes)


async def test_what_is_planted_without_asking_is_no_build(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Issue: the real compile is the only judge. This build keeps what it finds made, as most do."""
    agent(home, [("sh", "mkdir build; echo good > build/app.elf; echo >> main/useless.h")])
    build = f"cd {tree.top}; mkdir -p build; [ -e build/app.elf ] || echo bad > build/app.elf; grep good build/app.elf"
    view = await run(orchestrator, tree, plan(tree.top, build=build, rounds=2))

    assert story(view) == ["1 build failed", "1 fix success", "2 build failed"]
    assert fix_of(view)["notes"] == ["build was changed, so it was removed: the next round builds anew"]


async def test_a_change_of_a_managed_component_is_outside(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Ours. It is ignored by Git, so no diff shows it."""
    tree.write("managed_components/a/a.c", "int a;\n")
    agent(home, [mend(1, 3), ("sh", "echo 'int b;' >> managed_components/a/a.c")])
    view = await run(orchestrator, tree, plan(tree.top))

    assert view.build.reason == "outside"


@pytest.mark.parametrize(
    ("budget", "steps", "fixes"),
    [
        ({"tokens": 45}, [("sh", "sed -i 'y/123456/234567/' main/main.c")], ["success", "success", "failed"]),
        ({"tokens": 10}, [("say", "hm")], ["failed"]),
    ],
    ids=["over all rounds", "of the first"],
)
async def test_a_budget_is_that_of_the_whole_build(
    orchestrator: Orchestrator,
    tree: UserTree,
    home: Path,
    budget: dict[str, float],
    steps: fix_loop.Steps,
    fixes: list[str],
) -> None:
    """Issue: budget (tokens, money, time). The scripted agent uses 30 tokens a prompt."""
    agent(home, steps)
    build = "sed -n 's/.*return \\(.\\);/main.c:1:1: error: wrong NUMBER\\1x/p' main/main.c | tr 1-6 a-f; exit 1"
    view = await run(orchestrator, tree, plan(tree.top, rounds=9, budget=budget, build=build))

    assert [str(row.status) for row in view.stages if row.stage == "fix"] == fixes
    assert (view.build.status, view.build.reason) == (BuildStatus.FAILED, "budget")


async def test_an_agent_that_prints_endlessly_is_ended_by_its_time(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Issue. Its log is bounded, and the build says that the time was used up."""
    agent(home, [("flood", None)])
    view = await run(orchestrator, tree, plan(tree.top, timeout_s=4.0))

    assert view.build.reason in ("budget", "agent")  # its own limit, or the line without end that is no protocol
    log = await orchestrator.log(view.build.id, "fix")
    assert len(log.text) < 200_000


async def test_children_of_an_agent_end_with_it(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """Issue: leaves children."""
    agent(home, [mend(1, 3), ("child", None)])
    view = await run(orchestrator, tree, plan(tree.top))

    assert view.build.status is BuildStatus.SUCCESS
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []


async def said(orchestrator: Orchestrator, build: int, text: str) -> None:
    """Return once the agent of a build has said that."""
    while True:
        with contextlib.suppress(Exception):
            if text in (await orchestrator.log(build, "fix")).text:
                return
        await asyncio.sleep(0.02)


async def test_cancelling_ends_a_stubborn_agent_with_its_children_in_two_seconds(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Issue: cancel. The agent heeds no signal; the user's tree is as it was."""
    agent(home, [mend(1, 3), ("child", None), ("stubborn", None)])
    before = tree.everything(but="bo/fix-1")
    started = await orchestrator.start_plan(tree.top, plan(tree.top), name="loop")
    async with asyncio.timeout(20):
        await said(orchestrator, started.build.id, "sleeping")
    begun_at = time.monotonic()
    await orchestrator.cancel(started.build.id)
    view = await orchestrator.wait(started.build.id, 10)

    assert view.build.status is BuildStatus.CANCELLED
    assert time.monotonic() - begun_at < 4  # 2 where nobody else is at work
    assert list((home / "worktrees/tasks").iterdir()) == []
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []
    assert tree.everything(but="bo/fix-1") == before


async def test_an_answer_after_the_cancellation_changes_nothing_of_the_record(
    orchestrator: Orchestrator, tree: UserTree, home: Path, tmp_path: Path
) -> None:
    """Issue: returns after cancel. It mends, commits and claims success when nobody asks any more."""
    git = "git -c user.name=A -c user.email=a@b commit -qam late"
    late = [mend(1, 3), ("sh", f"{git}; touch {tmp_path / 'late'}"), ("say", "All mended!\n")]
    agent(home, [("wait to be cancelled", None), *late])
    before = tree.everything(but="bo/fix-1")
    started = await orchestrator.start_plan(tree.top, plan(tree.top), name="loop")
    async with asyncio.timeout(20):
        await said(orchestrator, started.build.id, "sleeping")
    await orchestrator.cancel(started.build.id)
    view = await orchestrator.wait(started.build.id, 10)

    assert (tmp_path / "late").exists(), "it was ended before it could answer"
    assert view.build.status is BuildStatus.CANCELLED
    assert story(view) == ["1 build failed", "1 fix cancelled"]
    assert view.stages[-1].verdict is None
    assert processes_with(f"BO_JOB={orchestrator.config.jobs_dir}") == []
    assert (await orchestrator.get(view.build.id)).stages == view.stages
    assert tree.everything(but="bo/fix-1") == before
    with pytest.raises(Conflict, match="only what was proved"):
        await orchestrator.workflows.apply(view.build.id)


async def test_a_lost_agent_begins_its_round_again_in_its_session(
    orchestrator: Orchestrator, tree: UserTree, home: Path, tmp_path: Path
) -> None:
    """Issue. What it had done and committed is gone, as nobody has looked at it; its session goes on."""
    flag = tmp_path / "lost"
    git = "git -c user.name=A -c user.email=a@b commit -qam x"
    first = f"[ -e {flag} ] || {{ touch {flag}; sed -i 's/return 1/return 9/' main/main.c; {git}; "
    agent(
        home, [("say", "begun\n"), ("sh", first + "exec sleep 60; }"), mend(1, 3)], able={"can": {"loadSession": True}}
    )
    started = await orchestrator.start_plan(tree.top, plan(tree.top), name="loop")
    async with asyncio.timeout(20):
        await said(orchestrator, started.build.id, "begun")
        while "return 9" not in tree.git("show", "bo/fix-1:main/main.c", check=False):  # noqa: ASYNC110 - git tells nobody
            await asyncio.sleep(0.02)
    kill_jobs(home)
    view = await orchestrator.wait(started.build.id, fix_loop.WAIT_S)

    fixes = [(row.attempt, str(row.status), row.reason) for row in view.stages if row.stage == "fix"]
    assert fixes == [(1, "failed", "lost"), (2, "success", "exit")]
    assert view.build.status is BuildStatus.SUCCESS
    assert "return 3" in tree.git("show", "bo/fix-1:main/main.c")
    assert [fix_of(view, number)["session"] for number in (0, 1)] == ["fresh", "fresh"]


async def test_a_folder_that_is_no_git_tree_is_mended_in_a_copy(
    orchestrator: Orchestrator, folder: Path, home: Path, tmp_path: Path
) -> None:
    """Issue."""
    (folder / "main").mkdir()
    (folder / "main/main.c").write_text("int main(void)\n{\n    return 1;\n}\n")
    agent(home, [mend(1, 3)])
    view = await run(orchestrator, UserTree(folder, tmp_path / "user"), plan(folder))

    assert view.build.status is BuildStatus.SUCCESS
    assert sorted(path.name for path in folder.iterdir()) == ["main"]
    assert "return 1" in (folder / "main/main.c").read_text()
    assert await orchestrator.workflows.apply(view.build.id) == ("main/main.c",)
    assert "return 3" in (folder / "main/main.c").read_text()


async def test_a_failed_build_is_mended_by_a_build_of_its_own(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Issue: `fix BUILD`. It begins with the fix, told what the first failed of, and keeps that one's record."""
    agent(home, [mend(1, 3)])
    failed = await orchestrator.start_plan(tree.top, plan(tree.top).model_copy(update={"fix": None}), name="loop")
    await orchestrator.wait(failed.build.id, fix_loop.WAIT_S)
    started = await orchestrator.workflows.fix(failed.build.id, agent="scripted")
    view = await orchestrator.wait(started.build.id, fix_loop.WAIT_S)

    assert story(view) == ["1 fix success", "2 build success"]
    assert (view.build.retry_of, view.build.round) == (failed.build.id, 2)
    said = (await orchestrator.log(view.build.id, "fix")).text
    assert "'one' undeclared" in said and "return 1;" in said  # the scripted agent repeats its prompt
    assert (await orchestrator.get(failed.build.id)).build.status is BuildStatus.FAILED
    assert tree.git("show", f"bo/fix-{failed.build.id}-{view.build.id}:main/main.c").count("return 3") == 1


async def test_a_fix_that_mends_nothing_is_no_progress_against_the_failed_build(
    orchestrator: Orchestrator, tree: UserTree, home: Path
) -> None:
    """Ours. The failed build's cause counts as the first."""
    agent(home, [("sh", "echo >> main/useless.h")])
    failed = await orchestrator.start_plan(tree.top, plan(tree.top).model_copy(update={"fix": None}), name="loop")
    await orchestrator.wait(failed.build.id, fix_loop.WAIT_S)
    started = await orchestrator.workflows.fix(failed.build.id, agent="scripted")
    view = await orchestrator.wait(started.build.id, fix_loop.WAIT_S)

    assert story(view) == ["1 fix success", "2 build failed"]
    assert view.build.reason == "no_progress"


async def test_a_branch_of_another_home_is_left_alone(orchestrator: Orchestrator, tree: UserTree, home: Path) -> None:
    """Ours. Each home counts its builds from 1."""
    tree.git("branch", "bo/fix-1")
    before = tree.git("rev-parse", "bo/fix-1")
    agent(home, [mend(1, 3)])
    view = await run(orchestrator, tree, plan(tree.top))

    assert view.build.status is BuildStatus.SUCCESS
    assert tree.git("rev-parse", "bo/fix-1") == before
    assert fix_of(view)["branch"].startswith("bo/fix-1-")
