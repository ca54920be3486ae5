"""What an agent did, as the files tell it; and what of that is not allowed."""

import asyncio
import os
from pathlib import Path

import pytest

from mcp_server.agents.apply_to import apply_to
from mcp_server.agents.changes import MAX_DIFF, FileChange, changes, outside, removed_tests
from mcp_server.agents.commit import commit, commit_folder
from mcp_server.agents.sentinel import sentinel, unchanged
from mcp_server.agents.workspace import Workspace, make
from mcp_server.errors import BadInput, Conflict
from tests.support.git_tree import UserTree


@pytest.fixture
async def workspace(tree: UserTree, place: Path) -> Workspace:
    async with asyncio.timeout(20):
        return await make(tree.top, place, "bo/fix-1")


async def test_changes_name_each_file_with_lines_and_leave_index_and_store_alone(
    workspace: Workspace, tree: UserTree
) -> None:
    """Issue."""
    (workspace.place / "main/main.c").write_text("int main(void)\n{\n    return 0;\n}\n")
    (workspace.place / "test/test_main.c").unlink()
    (workspace.place / "new.bin").write_bytes(b"\0\1\2")
    (workspace.place / "x.log").write_text("ignored\n")
    index = Path(tree.git("rev-parse", "--absolute-git-dir", cwd=workspace.place)) / "index"
    stored, before = tree.git("count-objects"), (index.read_bytes(), index.stat().st_mtime_ns)

    found = await changes(workspace)

    assert found.files == (
        FileChange("main/main.c", "changed", 1, 1, "100644", "100644"),
        FileChange("new.bin", "added", None, None, "000000", "100644"),
        FileChange("test/test_main.c", "deleted", 0, 4, "100644", "000000"),
    )
    assert "-    return 1;\n+    return 0;\n" in found.diff
    assert not found.cut
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before
    assert tree.git("count-objects") == stored


async def test_changes_hidden_by_index_bits_or_own_commits_are_seen(workspace: Workspace, tree: UserTree) -> None:
    """Ours. An agent that can run git must not be able to hide an edit."""
    tree.git("update-index", "--assume-unchanged", "main/main.c", cwd=workspace.place)
    tree.git("update-index", "--skip-worktree", "test/test_main.c", cwd=workspace.place)
    (workspace.place / "main/main.c").write_text("hidden\n")
    (workspace.place / "test/test_main.c").write_text("")
    (workspace.place / "other.c").write_text("committed\n")
    tree.git("add", "other.c", cwd=workspace.place)
    tree.git("commit", "-qm", "by the agent", cwd=workspace.place)

    found = await changes(workspace)

    assert [one.path for one in found.files] == ["main/main.c", "other.c", "test/test_main.c"]


async def test_worktree_whose_git_file_was_replaced_is_not_trusted(workspace: Workspace, tree: UserTree) -> None:
    """Ours. A repository that an agent made would say whatever it likes."""
    (workspace.place / ".git").unlink()
    tree.git("init", "-q", cwd=workspace.place)

    for asked in (changes(workspace), commit(workspace, "x"), apply_to(workspace)):
        with pytest.raises(Conflict, match=r"\.git was changed"):
            await asked


async def test_link_to_a_link_that_leads_out_is_outside(tree: UserTree, place: Path) -> None:
    """Ours. What the repository has may lead out; what an agent adds may not."""
    (tree.top / "sdk").symlink_to("/etc")
    workspace = await make(tree.top, place, "bo/fix-1")
    (place / "mine").symlink_to("sdk/passwd")

    found = await changes(workspace)

    assert outside(found, [], []) == ["mine: a link that leads out, to /etc/passwd"]


async def test_diff_over_one_megabyte_is_cut_with_a_mark_and_counts_stay_true(workspace: Workspace) -> None:
    """Issue."""
    (workspace.place / "long.c").write_text("a line of some length\n" * 100_000)

    found = await changes(workspace)

    assert found.cut
    assert len(found.diff) < MAX_DIFF + 200
    assert found.diff.endswith("the rest is left out]\n")
    assert found.files[0].added == 100_000


async def test_outside_names_paths_links_modes_and_the_rest_of_the_repository(tree: UserTree, place: Path) -> None:
    """Issue."""
    workspace = await make(tree.top / "main", place, "bo/fix-1")
    (workspace.folder / "main.c").chmod(0o755)
    (workspace.folder / "ok.c").write_text("ok\n")
    (workspace.folder / "notes.txt").write_text("no\n")
    (workspace.folder / "out.c").symlink_to("../../etc/passwd")
    (workspace.folder / "far.c").symlink_to("/etc/passwd")
    (workspace.folder / "near.c").symlink_to("ok.c")
    (place / "test/test_main.c").write_text("outside of the project's folder\n")

    said = outside(await changes(workspace), ["*.c"], ["far.*"])

    assert said == [
        "main/far.c: among the forbidden paths",
        "main/far.c: a link that leads out, to /etc/passwd",
        "main/main.c: made executable",
        "main/notes.txt: not among the allowed paths",
        "main/out.c: a link that leads out, to ../../etc/passwd",
        "test/test_main.c: outside the project's folder",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "a test file was deleted"),
        ("", "2 lines with assertions or tests were removed, 0 added"),
        ('TEST_CASE("a", "[m]")\n{\n    // TEST_ASSERT_EQUAL(1, one());\n}\n', "1 lines with assertions"),
        ('TEST_CASE("a", "[m]")\n{\n    /* TEST_ASSERT_EQUAL(1, one()); */\n}\n', "1 lines with assertions"),
        ('TEST_CASE("a", "[m]")\n{\n    # TEST_ASSERT_EQUAL(1, one());\n}\n', "1 lines with assertions"),
        ('TEST_CASE("a", "[m][ignore]")\n{\n    TEST_ASSERT_EQUAL(1, one());\n}\n', "switch tests off"),
        ("#if 0\nTEST_CASE(\"a\", \"[m]\")\n{\n    TEST_ASSERT_EQUAL(1, one());\n}\n#endif\n", "switch tests off"),
        ('TEST_CASE("a", "[m]")\n{\n    TEST_ASSERT_EQUAL(2, one());\n}\n', ""),
    ],
)  # fmt: skip
async def test_tests_that_are_deleted_thinned_or_switched_off_are_said(
    workspace: Workspace, text: str | None, said: str
) -> None:
    """Issue. A changed assertion counts as one removed and one added."""
    file = workspace.place / "test/test_main.c"
    file.unlink() if text is None else file.write_text(text)

    found = removed_tests(await changes(workspace))

    assert (said in found[0]) if said else found == []


async def test_attributes_hide_neither_tests_nor_the_diff(workspace: Workspace) -> None:
    """Ours. A file that .gitattributes calls a binary one is shown and counted all the same."""
    (workspace.place / ".gitattributes").write_text("*.c -diff\n")
    (workspace.place / "test/test_main.c").write_text('TEST_CASE("a", "[m]")\n{\n}\n')

    found = await changes(workspace)

    assert removed_tests(found) == ["test/test_main.c: 1 lines with assertions or tests were removed, 0 added"]
    assert "-    TEST_ASSERT_EQUAL(1, one());" in found.diff


async def test_commit_has_author_message_and_all_files_and_nothing_the_second_time(
    workspace: Workspace, tree: UserTree
) -> None:
    """Issue. The worktree's own index follows."""
    (workspace.place / "main/main.c").write_text("fixed\n")
    (workspace.place / "-new").write_text("new\n")

    sha = await commit(workspace, "fix: it\n\nBuild: ab-1", "Bot <bot@example.org>")

    assert tree.git("rev-parse", "bo/fix-1") == sha
    assert tree.git("log", "-1", "--format=%an %ae %cn %B", sha or "").strip() == (
        "Bot bot@example.org build-orchestrator fix: it\n\nBuild: ab-1"
    )
    assert tree.git("status", "--porcelain", cwd=workspace.place) == ""
    assert await commit(workspace, "again") is None
    assert [one.path for one in (await changes(workspace)).files] == ["-new", "main/main.c"]
    assert not await changes(workspace, since=sha)
    with pytest.raises(BadInput, match="Name <mail"):
        await commit(workspace, "x", "nobody")


async def test_commit_is_refused_with_conflict_markers_on_another_branch_or_without_a_message(
    workspace: Workspace, tree: UserTree
) -> None:
    """Issue."""
    (workspace.place / "main/main.c").write_text("<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n")
    with pytest.raises(Conflict, match=r"main/main\.c: conflict markers"):
        await commit(workspace, "x")
    with pytest.raises(BadInput, match="message"):
        await commit(workspace, " \n")
    tree.git("checkout", "-q", "--detach", cwd=workspace.place)
    with pytest.raises(Conflict, match="on no branch, not on bo/fix-1"):
        await commit(workspace, "x")


async def test_unmerged_tree_is_not_committed(tree: UserTree) -> None:
    """Issue."""
    tree.git("checkout", "-q", "-b", "other")
    tree.write("main/main.c", "theirs\n")
    tree.commit()
    tree.git("checkout", "-q", "main")
    tree.write("main/main.c", "ours\n")
    tree.commit()
    tree.git("merge", "other", check=False)

    with pytest.raises(Conflict, match="not merged yet"):
        await commit_folder(tree.top, "x")


async def test_fresh_folder_becomes_a_repository_on_the_branch(tmp_path: Path) -> None:
    """Issue. A tree made from a template."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a.c").write_text("1\n")

    made = await commit_folder(folder, "first", branch="bot/task-1")

    assert made is not None
    assert (made.branch, made.files) == ("bot/task-1", ("a.c",))
    assert UserTree(folder, tmp_path / "user").git("status", "--porcelain") == ""


async def test_fix_is_applied_to_the_user_s_files_once_and_index_and_other_edits_stay(
    tree: UserTree, place: Path
) -> None:
    """Issue."""
    tree.write("main/main.c", "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\n")
    workspace = await make(tree.top, place, "bo/fix-1")
    text = (place / "main/main.c").read_text()
    (place / "main/main.c").write_text(text.replace("line 9", "fixed"))
    (place / "blob").write_bytes(bytes(range(256)))
    (place / "test/test_main.c").unlink()
    tree.write("main/main.c", text.replace("line 1", "meanwhile"))
    index = (tree.top / ".git/index").read_bytes()

    for _ in range(2):
        assert await apply_to(workspace) == ("blob", "main/main.c", "test/test_main.c")

    assert (tree.top / "main/main.c").read_text() == text.replace("line 1", "meanwhile").replace("line 9", "fixed")
    assert (tree.top / "blob").read_bytes() == bytes(range(256))
    assert not (tree.top / "test/test_main.c").exists()
    assert (tree.top / ".git/index").read_bytes() == index


async def test_fix_that_does_not_fit_any_more_changes_nothing_and_names_the_file(
    workspace: Workspace, tree: UserTree
) -> None:
    """Issue."""
    (workspace.place / "main/main.c").write_text("fixed\n")
    (workspace.place / "a.c").write_text("new\n")
    tree.write("main/main.c", "meanwhile\n")
    before = tree.everything()

    with pytest.raises(Conflict, match=r"main/main\.c changed meanwhile"):
        await apply_to(workspace)

    assert tree.everything() == before


async def test_fix_of_a_copy_is_applied_where_the_copy_came_from(tmp_path: Path, place: Path) -> None:
    """Issue. Also where the folder lies in a repository that does not know it."""
    outer = UserTree(tmp_path / "outer", tmp_path / "user")
    outer.top.mkdir()
    outer.git("init", "-q")
    outer.write("plain/a.c", "1\n")
    workspace = await make(outer.top / "plain", place, "bo/fix-1")
    (place / "a.c").write_text("2\n")

    assert await apply_to(workspace) == ("a.c",)
    assert (outer.top / "plain/a.c").read_text() == "2\n"


def _edit(tree: UserTree) -> None:
    tree.write("main/main.c", "second edit\n")


def _commit(tree: UserTree) -> None:
    tree.git("commit", "-qam", "x")


def _hook(tree: UserTree) -> None:
    tree.write(".git/hooks/pre-commit")


def _sdkconfig(tree: UserTree) -> None:
    tree.write("sdkconfig", "CONFIG_X=y\n")


@pytest.mark.parametrize("change", [_edit, _commit, _hook, _sdkconfig])
async def test_sentinel_notices_an_edit_outside_the_workspace(tree: UserTree, place: Path, change: object) -> None:
    """Issue. Not the branch's own commits, nor what a build makes, nor `git status` writing the index."""
    tree.write("main/main.c", "dirty before\n")
    workspace = await make(tree.top, place, "bo/fix-1")
    before = await sentinel(tree.top)
    (place / "main/main.c").write_text("in the workspace\n")
    await commit(workspace, "x")
    tree.write("build/x.o")
    os.utime(tree.top / "test/test_main.c")
    tree.git("status")
    assert await unchanged(tree.top, before)

    change(tree)  # type: ignore[operator]

    assert not await unchanged(tree.top, before)


async def test_sentinel_of_a_folder_in_no_repository_notices_every_file(tmp_path: Path) -> None:
    """Issue."""
    folder = tmp_path / "plain"
    (folder / "build").mkdir(parents=True)
    (folder / "a.c").write_text("1\n")
    before = await sentinel(folder)
    (folder / "build/x").write_text("x")
    assert await unchanged(folder, before)

    (folder / "b.c").write_text("1\n")

    assert not await unchanged(folder, before)
