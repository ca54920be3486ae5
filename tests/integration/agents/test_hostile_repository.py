"""Nothing that lies in a repository is run: each trap would leave a file, and none does."""

import asyncio
import os
from pathlib import Path

import pytest

from mcp_server.agents.apply_to import apply_to
from mcp_server.agents.changes import changes
from mcp_server.agents.commit import commit, commit_folder
from mcp_server.agents.git import Git, GitFailed
from mcp_server.agents.sentinel import sentinel
from mcp_server.agents.workspace import make, remove
from mcp_server.errors import BadInput
from tests.support.git_tree import UserTree, begun

HOOKS = ("pre-commit", "commit-msg", "post-commit", "post-checkout", "post-index-change", "reference-transaction",
         "post-rewrite", "prepare-commit-msg", "applypatch-msg", "pre-push", "fsmonitor-watchman")  # fmt: skip


def trap(tree: UserTree, name: str) -> str:
    """A command that leaves a file and then passes its input on."""
    return f"touch {tree.top.parent / 'sprung'}/{name}; cat"


def armed(tree: UserTree) -> Path:
    """Hooks, filters, fsmonitor, drivers, editors, aliases, includes: all of them traps. Where they leave files."""
    sprung = tree.top.parent / "sprung"
    sprung.mkdir()
    tree.write(".gitattributes", "*.c filter=evil diff=evil merge=evil\n*.h filter=late\n*.x export-subst ident\n")
    tree.write("main/main.h", "header\n")
    tree.write("main/main.x", "$Id$ $Format:%H$\n")
    tree.commit()
    for hook in HOOKS:
        path = tree.write(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {sprung}/{hook}\nexit 1\n")
        path.chmod(0o755)
    for key in ("filter.evil.clean", "filter.evil.smudge", "diff.evil.command", "diff.evil.textconv",
                "merge.evil.driver", "core.editor", "core.pager", "core.fsmonitor", "diff.external", "gpg.program",
                "core.sshCommand", "core.alternateRefsCommand", "credential.helper"):  # fmt: skip
        tree.git("config", key, trap(tree, key))
    for command in ("status", "diff-files", "update-index", "commit-tree", "worktree", "read-tree"):
        tree.git("config", f"alias.{command}", f"!{trap(tree, 'alias')}")
    tree.git("config", "filter.evil.required", "true")
    tree.git("config", "commit.gpgSign", "true")
    included = tree.top / ".git/late"
    included.write_text(f'[filter "late"]\n\tsmudge = "{trap(tree, "late")}"\n\tclean = "{trap(tree, "late")}"\n')
    tree.git("config", "includeIf.onbranch:bo/**.path", str(included))
    return sprung


async def test_no_trap_springs_from_the_first_snapshot_to_the_last_patch(tree: UserTree, place: Path) -> None:
    """Issue. `includeIf` adds a filter on the workspace's branch only."""
    sprung = armed(tree)
    async with asyncio.timeout(30):
        workspace = await make(tree.top, place, "bo/fix-1")
        (place / "README").write_text("new\n")
        await changes(workspace)
        await commit(workspace, "work")
        await sentinel(tree.top)
        await apply_to(workspace)
        await commit_folder(tree.top, "in the tree itself")
        await remove(workspace)

    assert [path.name for path in sprung.iterdir()] == []
    assert (tree.top / "README").read_text() == "new\n"
    assert tree.git("cat-file", "-p", "bo/fix-1:main/main.h") == "header"


async def test_no_trap_of_a_submodule_springs(tree: UserTree, place: Path, tmp_path: Path) -> None:
    """Issue. Its configuration is one of its own, and git looks into it by itself where it is let."""
    inner = begun(tmp_path / "inner", tmp_path / "user")
    tree.git("submodule", "add", "-q", str(inner.top), "lib")
    tree.commit()
    lib = UserTree(tree.top / "lib", tmp_path / "user")
    sprung = tmp_path / "sprung"
    sprung.mkdir()
    lib.write(".gitattributes", "*.c filter=inner\n")
    lib.write("main/main.c", "changed\n")
    for key in ("filter.inner.clean", "filter.inner.smudge", "core.fsmonitor"):
        lib.git("config", key, f"touch {sprung}/{key}; cat")

    workspace = await make(tree.top, place, "bo/fix-1")
    (place / "main/main.c").write_text("changed\n")
    await changes(workspace)
    await commit(workspace, "x")
    await sentinel(tree.top)

    assert [path.name for path in sprung.iterdir()] == []
    assert [one.split(":")[0] for one in workspace.left_out] == ["lib/main/main.c"]


async def test_traps_do_spring_where_git_is_run_plainly(tree: UserTree) -> None:
    """Ours. Else the test above would prove nothing."""
    sprung = armed(tree)
    tree.write("main/main.c", "changed\n")
    tree.git("add", "-A", check=False)
    tree.git("commit", "-m", "x", check=False)

    assert {path.name for path in sprung.iterdir()} >= {"core.fsmonitor", "filter.evil.clean", "pre-commit"}


async def test_filtered_file_that_was_changed_is_said_and_never_stored_bare(tree: UserTree, place: Path) -> None:
    """Issue. With the filter off git-crypt's plain text would be pushed, and LFS's content stored in Git."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"
    tree.write("assets/logo.bin", pointer)
    tree.write("secret.key", "encrypted\n")
    tree.commit()
    tree.write(".gitattributes", "*.bin filter=lfs -text\n*.key filter=git-crypt\n")
    tree.commit()
    tree.write("secret.key", "plain text\n")
    tree.write("assets/new.bin", "content\n")

    workspace = await make(tree.top, place, "bo/fix-1")

    assert (place / "assets/logo.bin").read_text() == pointer
    assert (place / "secret.key").read_text() == "encrypted\n"
    assert {one.split(":")[0] for one in workspace.left_out} == {"secret.key", "assets/new.bin"}
    (place / "secret.key").write_text("by the agent\n")
    assert [one.split(":")[0] for one in (await changes(workspace)).left_out] == ["secret.key"]
    with pytest.raises(BadInput, match="filter git-crypt"):
        await commit(workspace, "x")


async def test_filter_whose_name_cannot_be_switched_off_is_refused(tree: UserTree, place: Path) -> None:
    """Ours. An equals sign would end the key on a command line."""
    with (tree.top / ".git/config").open("a") as file:
        file.write('[filter "a=b"]\n\tclean = cat\n')

    with pytest.raises(BadInput, match="cannot be switched off"):
        await make(tree.top, place, "bo/fix-1")


async def test_repository_of_another_user_is_read_by_its_exact_path(tree: UserTree, place: Path) -> None:
    """Issue."""
    if os.getuid() != 0:
        pytest.skip("only root can give files to another user")
    for folder, folders, files in os.walk(tree.top):
        for name in [*folders, *files, "."]:
            os.chown(Path(folder) / name, 1234, 1234)
    assert "dubious" in tree.git("status", check=False) or tree.git("status", check=False) == ""

    workspace = await make(tree.top, place, "bo/fix-1")

    assert (place / "main/main.c").exists()
    assert not (await changes(workspace)).files


async def test_output_without_end_and_a_command_without_end_are_stopped(tree: UserTree) -> None:
    """Ours. Neither memory nor time is git's to use up."""
    tree.write("big", "x" * 3_000_000)
    tree.commit()
    git = await Git.at(tree.top)

    with pytest.raises(GitFailed, match="more than 1,000 bytes"):
        await git.run("cat-file", "blob", "HEAD:big", limit=1000)
    with pytest.raises(GitFailed, match="did not end within"):
        await git.run("cat-file", "blob", "HEAD:big", timeout_s=0.0)


async def test_user_s_own_ignored_names_and_line_ends_count(tree: UserTree, place: Path) -> None:
    """Ours. What the user ignores everywhere may be secret."""
    ignore = Path(tree.environment["HOME"]) / ".config/git/ignore"
    ignore.parent.mkdir(parents=True)
    ignore.write_text(".env\n")
    tree.write(".env", "TOKEN=1\n")

    workspace = await make(tree.top, place, "bo/fix-1")
    (place / ".env").write_text("TOKEN=2\n")

    assert tree.git("ls-tree", "-r", "--name-only", "bo/fix-1").split() == [
        ".gitignore", "main/main.c", "test/test_main.c",
    ]  # fmt: skip
    assert not await changes(workspace)
