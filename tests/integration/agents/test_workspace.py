"""Workspaces begun from real repositories in every state that users leave them in."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mcp_server.agents import inputs
from mcp_server.agents.changes import changes
from mcp_server.agents.workspace import Workspace, make, open_, remove, state_of
from mcp_server.errors import BadInput, Conflict
from tests.support.git_tree import UserTree, begun

BRANCH = "bo/fix-1"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def made(tree: UserTree, place: Path, **more: object) -> Workspace:
    async with asyncio.timeout(20):
        return await make(tree.top, place, BRANCH, **more)  # type: ignore[arg-type]


async def test_workspace_has_the_tree_as_it_is_and_the_user_keeps_every_byte(tree: UserTree, place: Path) -> None:
    """Issue. Staged, changed, deleted, new: all of it in the snapshot; index, refs, stash and files as before."""
    tree.write("main/gone.c")
    tree.write("main/stashed.c")
    tree.commit()
    tree.write("main/stashed.c", "stash\n")
    tree.git("stash")
    tree.write("main/main.c", "staged\n")
    tree.git("add", "main/main.c")
    tree.write("main/main.c", "changed after it was staged\n")
    (tree.top / "main/gone.c").unlink()
    tree.write("main/new.c", "new\n")
    tree.write("noise.log")
    before = tree.everything()

    workspace = await made(tree, place)

    assert tree.everything(but=BRANCH) == before
    assert (place / "main/main.c").read_text() == "changed after it was staged\n"
    assert (place / "main/new.c").read_text() == "new\n"
    assert not (place / "main/gone.c").exists()
    assert not (place / "noise.log").exists()
    assert workspace.head_before == tree.git("rev-parse", "HEAD")
    assert tree.git("rev-parse", f"{BRANCH}^") == workspace.head_before
    assert tree.git("rev-parse", BRANCH) == workspace.base
    assert not await changes(workspace)


async def test_file_changed_within_one_tick_of_the_index_is_in_the_snapshot(tree: UserTree, place: Path) -> None:
    """Ours. A copy of the index with a later time would hide a change of the same size."""
    tick = (1_700_000_000_000_000_000, 1_700_000_000_000_000_000)
    path = tree.write("main/main.c", "aaaa\n")
    os.utime(path, ns=tick)
    tree.commit()
    tree.git("config", "core.trustctime", "false")  # stands for a clock that ticks slowly
    path.write_text("bbbb\n")
    os.utime(path, ns=tick)
    os.utime(tree.top / ".git/index", ns=tick)

    await made(tree, place)

    assert (place / "main/main.c").read_text() == "bbbb\n"


async def test_repository_without_a_commit_gives_a_parentless_snapshot(tmp_path: Path, place: Path) -> None:
    """Issue."""
    tree = UserTree(tmp_path / "fresh", tmp_path / "user")
    tree.top.mkdir()
    tree.git("init", "-q", "-b", "main")
    tree.write("a.c", "1\n")

    workspace = await made(tree, place)

    assert workspace.head_before is None
    assert tree.git("rev-list", "--count", BRANCH) == "1"
    assert (place / "a.c").read_text() == "1\n"
    assert tree.git("status", "--porcelain") == "?? a.c"


async def test_detached_head_and_a_merge_in_progress_stay_as_they_are(tree: UserTree, place: Path) -> None:
    """Issue. Conflict markers are in the snapshot, as they are in the tree."""
    tree.git("checkout", "-q", "-b", "other")
    tree.write("main/main.c", "theirs\n")
    tree.commit()
    tree.git("checkout", "-q", "--detach", "main")
    tree.write("main/main.c", "ours\n")
    tree.commit()
    tree.git("merge", "other", check=False)
    before = tree.everything()

    await made(tree, place)

    assert tree.everything(but=BRANCH) == before
    assert "<<<<<<<" in (place / "main/main.c").read_text()
    assert tree.git("ls-files", "--unmerged")


async def test_project_in_a_sub_folder_gets_its_inputs_and_no_build_directory(tmp_path: Path, place: Path) -> None:
    """Issue. What builds read is copied although it is ignored; what builds make is not taken, ignored or not."""
    tree = begun(tmp_path / "project", tmp_path / "user")
    tree.write("app [1]/main.c")
    tree.commit()
    for name in ("sdkconfig", "dependencies.lock", "managed_components/a/b.c", "build/big.o", "sdkconfig.old"):
        tree.write(f"app [1]/{name}", name)
    tree.write(".gitignore", "sdkconfig\nmanaged_components\n")

    async with asyncio.timeout(20):
        workspace = await make(tree.top / "app [1]", place, BRANCH)

    assert workspace.folder == place / "app [1]"
    assert names_in(workspace.folder) == ["dependencies.lock", "main.c", "managed_components", "sdkconfig"]
    assert (workspace.folder / "managed_components/a/b.c").read_text() == "managed_components/a/b.c"
    (workspace.folder / "build").mkdir()
    (workspace.folder / "build/x.o").write_text("x")
    assert not await changes(workspace)


async def test_inputs_that_are_links_out_are_left_and_said(tree: UserTree, place: Path, tmp_path: Path) -> None:
    """Issue. Nothing is copied through a link."""
    (tmp_path / "secret").write_text("secret\n")
    (tree.top / "sdkconfig").symlink_to(tmp_path / "secret")
    tree.write("managed_components/a.c")
    (tree.top / "managed_components/out").symlink_to("../../secret")
    (tree.top / "managed_components/in").symlink_to("a.c")

    workspace = await made(tree, place)

    assert not os.path.lexists(place / "sdkconfig")
    assert names_in(place / "managed_components") == ["a.c", "in"]
    assert len(workspace.left_out) == 2


async def test_submodule_comes_by_reference_with_its_uncommitted_changes(tmp_path: Path, place: Path) -> None:
    """Issue. No network, and the user's clone is not written."""
    inner = begun(tmp_path / "inner", tmp_path / "user")
    tree = begun(tmp_path / "project", tmp_path / "user")
    tree.git("submodule", "add", "-q", str(inner.top), "lib")
    tree.commit()
    tree.write("lib/main/main.c", "changed in the submodule\n")
    before = tree.everything()

    workspace = await made(tree, place)

    assert tree.everything(but=BRANCH) == before
    assert (place / "lib/main/main.c").read_text() == "changed in the submodule\n"
    assert (place / "lib/test/test_main.c").exists()
    assert not await changes(workspace)
    (place / "lib/main/main.c").write_text("by the agent\n")
    assert [(one.path, one.status) for one in (await changes(workspace)).files] == [("lib", "submodule")]


async def test_repository_inside_the_tree_that_is_no_submodule_is_taken_as_files(tree: UserTree, place: Path) -> None:
    """Ours. A component cloned by hand is part of what is built."""
    component = begun(tree.top / "components/led", Path(tree.environment["HOME"]))
    component.write("led.c", "led\n")

    workspace = await made(tree, place)

    assert (place / "components/led/led.c").read_text() == "led\n"
    assert (place / "components/led/main/main.c").exists()
    assert not (place / "components/led/.git").exists()
    assert workspace.left_out == ()
    assert not await changes(workspace)


async def test_worktree_and_a_git_file_are_repositories_like_others(tree: UserTree, tmp_path: Path) -> None:
    """Issue."""
    linked = UserTree(tmp_path / "linked", Path(tree.environment["HOME"]))
    tree.git("worktree", "add", "-q", str(linked.top))
    linked.write("main/main.c", "in the worktree\n")
    apart = UserTree(tmp_path / "apart", Path(tree.environment["HOME"]))
    tree.git("clone", "-q", f"--separate-git-dir={tmp_path / 'gitdir'}", str(tree.top), str(apart.top))
    apart.write("main/main.c", "with a .git that is a file\n")

    for user in (linked, apart):
        before = user.git("status", "--porcelain")
        workspace = await made(user, tmp_path / f"ws/{user.top.name}") if user is apart else None
        if workspace is None:
            async with asyncio.timeout(20):
                workspace = await make(linked.top, tmp_path / "ws/linked", "bo/fix-2")
        assert (workspace.place / "main/main.c").read_text() == (user.top / "main/main.c").read_text()
        assert user.git("status", "--porcelain") == before


async def test_names_with_newlines_quotes_dashes_and_other_bytes_survive(tree: UserTree, place: Path) -> None:
    """Issue."""
    names = [b"-n", b"--help", b'a"b\n c', b"\xff\xfe", b"t\tab", b"\xed\x95\x9c.c", b":(top)x", b"*.c"]
    for name in names:
        (tree.top / os.fsdecode(name)).write_bytes(name)

    workspace = await made(tree, place)
    for name in names:
        assert (place / os.fsdecode(name)).read_bytes() == name
        (place / os.fsdecode(name)).write_bytes(b"changed\n")

    assert {os.fsencode(one.path) for one in (await changes(workspace)).files} == set(names)


async def test_huge_file_is_left_out_and_said(tree: UserTree, place: Path) -> None:
    """Issue. A core dump beside the sources is nothing that an agent needs."""
    with tree.write("core").open("wb") as file:
        file.truncate(100 << 20)

    workspace = await made(tree, place)

    assert not (place / "core").exists()
    assert workspace.left_out == ("core: it has 104,857,600 bytes, over 67,108,864",)


async def test_folder_in_no_repository_is_copied_into_one_of_its_own(tmp_path: Path, place: Path) -> None:
    """Issue. Also below a repository that knows nothing of it, such as one of dotfiles."""
    home = begun(tmp_path / "dotfiles", tmp_path / "user")
    home.write(".gitignore", "*\n")
    home.commit()
    project = home.top / "hello"
    (project / "main").mkdir(parents=True)
    (project / "main/main.c").write_text("1\n")
    (project / "build").mkdir()
    (project / "build/o").write_text("o")
    (project / "link").symlink_to("/etc/passwd")
    os.mkfifo(project / "fifo")
    before = home.everything()

    async with asyncio.timeout(20):
        workspace = await make(project, place, BRANCH)

    assert workspace.is_copy
    assert home.everything() == before
    assert names_in(place) == [".git", "main"]
    assert {one.split(":")[0] for one in workspace.left_out} == {"link", "fifo"}
    (place / "main/main.c").write_text("2\n")
    assert [one.path for one in (await changes(workspace)).files] == ["main/main.c"]
    await remove(workspace)
    assert names_in(place.parent) == []


async def test_what_cannot_be_made_leaves_nothing(
    tree: UserTree, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours. Neither half of a copy nor a note that another attempt would stumble over."""
    tree.git("branch", "bo")
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in "abc":
        (plain / name).write_text(name)
    monkeypatch.setattr(inputs, "MAX_FILES", 2)
    before = tree.everything()

    with pytest.raises(Conflict, match="'refs/heads/bo' exists"):
        await make(tree.top, place, "bo/fix-1")
    with pytest.raises(BadInput, match="files to copy"):
        await make(plain, place, "bo/fix-1")

    assert list(place.parent.iterdir()) == [] and tree.everything() == before


async def test_made_twice_is_the_same_and_another_branch_there_is_refused(tree: UserTree, place: Path) -> None:
    """Ours."""
    first = await made(tree, place)
    (place / "main/main.c").write_text("work in progress\n")

    assert await made(tree, place) == first == await open_(place)
    assert (place / "main/main.c").read_text() == "work in progress\n"
    with pytest.raises(Conflict, match="is the workspace of"):
        await make(tree.top, place, "bo/fix-2")
    with pytest.raises(Conflict, match="is there already"):
        await make(tree.top, place.with_name("2"), BRANCH)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from mcp_server.agents import git, workspace
left = int(sys.argv[3])
run = git.run_bounded
async def counted(*args, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return await run(*args, **more)
git.run_bounded = counted
asyncio.run(workspace.make(Path(sys.argv[1]), Path(sys.argv[2]), "bo/fix-1"))
"""


async def test_killed_at_any_command_it_is_made_whole_the_next_time(tree: UserTree, place: Path) -> None:
    """Issue. Each command in turn is the one that a kill -9 comes before."""
    tree.write("main/main.c", "dirty\n")
    before = tree.everything()
    for commands in range(6, 60):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, str(tree.top), str(place), str(commands)), env=tree.environment
        )
        async with asyncio.timeout(20):
            code = await process.wait()
        workspace = await made(tree, place)
        assert (place / "main/main.c").read_text() == "dirty\n"
        assert tree.everything(but=BRANCH) == before
        assert not await changes(workspace)
        await remove(workspace, keep_branch=False)
        assert tree.git("branch", "--format=%(refname:short)") == "main"
        if code == 0:
            return
        assert code == -signal.SIGKILL
    raise AssertionError("it never came to its end")


async def test_remove_may_keep_the_branch_and_forgets_only_its_own_worktree(
    tree: UserTree, place: Path, tmp_path: Path
) -> None:
    """Ours. A worktree of the user's on a disk that is away now must stay known."""
    tree.git("worktree", "add", "-q", str(tmp_path / "away"))
    (tmp_path / "away").rename(tmp_path / "unplugged")
    workspace = await made(tree, place)

    await remove(workspace)
    await remove(workspace)

    assert tree.git("rev-parse", BRANCH) == workspace.base
    assert "away" in tree.git("worktree", "list")
    assert str(place) not in tree.git("worktree", "list")
    assert await open_(place) is None


async def test_place_that_is_a_link_or_taken_or_inside_the_project_is_refused(
    tree: UserTree, place: Path, tmp_path: Path
) -> None:
    """Issue."""
    place.parent.mkdir()
    place.symlink_to(tmp_path)
    with pytest.raises(BadInput, match="symbolic link"):
        await made(tree, place)
    taken = place.with_name("taken")
    taken.mkdir()
    (taken / "mine").write_text("mine")
    with pytest.raises(Conflict, match="no workspace"):
        await made(tree, taken)
    with pytest.raises(BadInput, match="must lie outside"):
        await made(tree, tree.top / "ws")
    for branch in ("-f", "a..b", "", "x y"):
        with pytest.raises(BadInput, match="no name of a branch"):
            await make(tree.top, place.with_name("new"), branch)
    assert not state_of(place.with_name("new")).exists()


async def test_core_worktree_that_leads_elsewhere_is_refused(tree: UserTree, place: Path, tmp_path: Path) -> None:
    """Issue. Else the snapshot would be of somebody's home."""
    for elsewhere in (tmp_path / "user", tmp_path):
        tree.git("config", "core.worktree", str(elsewhere))
        with pytest.raises(BadInput, match=r"core\.worktree"):
            await made(tree, place)
