"""Pushing to real repositories on this disk: what goes through, what is refused, and who is never asked."""

import asyncio
import socket
from pathlib import Path

import pytest

from mcp_server.agents.commit import commit
from mcp_server.agents.git import without_login
from mcp_server.agents.push import Pushed, push
from mcp_server.agents.workspace import Workspace, make
from mcp_server.errors import BadInput
from tests.support.git_tree import UserTree

BRANCH = "bo/fix-1"


@pytest.fixture
def origin(tree: UserTree, tmp_path: Path) -> Path:
    """A bare repository with main, which is the tree's origin."""
    bare = tmp_path / "origin.git"
    tree.git("init", "-q", "--bare", "-b", "main", str(bare))
    tree.git("remote", "add", "origin", f"file://{bare}")
    tree.git("push", "-q", "origin", "main")
    return bare


@pytest.fixture
async def workspace(tree: UserTree, place: Path) -> Workspace:
    workspace = await make(tree.top, place, BRANCH)
    (place / "main/main.c").write_text("fixed\n")
    await commit(workspace, "fix")
    return workspace


async def pushed(
    where: Workspace | Path, remote: str = "origin", branch: str = BRANCH, allow_default: bool = False
) -> Pushed:
    async with asyncio.timeout(20):
        return await push(where, remote, branch, protocols=("file",), allow_default=allow_default)


async def test_branch_is_made_then_there_then_moved_on_and_nothing_else_is(
    tree: UserTree, origin: Path, workspace: Workspace
) -> None:
    """Issue. No tags; the user's own refs stay."""
    tree.git("tag", "-a", "v1", "-m", "v1", BRANCH)
    tree.git("config", "push.followTags", "true")
    refs = tree.git("for-each-ref")

    first, again = await pushed(workspace), await pushed(workspace)
    (workspace.place / "main/main.c").write_text("better\n")
    sha = await commit(workspace, "more")
    third = await pushed(workspace)

    assert [one.outcome for one in (first, again, third)] == ["new", "unchanged", "updated"]
    assert first.ok
    assert third.sha == sha == tree.git("rev-parse", BRANCH, cwd=origin)
    assert tree.git("for-each-ref", "--format=%(refname)", cwd=origin).split() == [
        f"refs/heads/{BRANCH}", "refs/heads/main",
    ]  # fmt: skip
    assert tree.git("rev-parse", f"refs/remotes/origin/{BRANCH}") == sha  # as Git itself notes it
    assert tree.git("rev-list", BRANCH, "--not", "--remotes") == ""
    assert [one for one in tree.git("for-each-ref").splitlines() if BRANCH not in one] == [
        one for one in refs.splitlines() if BRANCH not in one
    ]


async def test_what_was_pushed_is_noted_where_the_repository_says_and_a_refused_one_nowhere(
    tree: UserTree, origin: Path, workspace: Workspace
) -> None:
    """Ours. A clone of one branch has no place for others; a URL has no name here."""
    noted = f"refs/remotes/origin/{BRANCH}"
    assert (await pushed(workspace, f"file://{origin}")).ok
    tree.git("config", "remote.origin.fetch", "+refs/heads/main:refs/remotes/origin/main")
    assert (await pushed(workspace)).ok
    assert noted not in tree.git("for-each-ref")
    tree.git("config", "--add", "remote.origin.fetch", f"+refs/heads/{BRANCH}:refs/remotes/elsewhere/x")
    assert (await pushed(workspace)).ok
    assert "refs/remotes/elsewhere/x" in tree.git("for-each-ref")
    tree.git("config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    assert (await pushed(workspace, branch="main")).outcome == "default_branch"
    assert tree.git("rev-parse", "refs/remotes/origin/main") == tree.git("rev-parse", "main")


async def test_branch_with_other_commits_is_never_overwritten(
    tree: UserTree, origin: Path, workspace: Workspace
) -> None:
    """Issue. Also where the repository asks for force."""
    tree.git("push", "-q", "origin", f"main:refs/heads/{BRANCH}")
    other = tree.top.parent / "other"
    tree.git("clone", "-q", "-b", BRANCH, str(origin), str(other))
    theirs = UserTree(other, Path(tree.environment["HOME"])).commit("theirs")
    tree.git("push", "-q", "origin", BRANCH, cwd=other)
    tree.git("config", "remote.origin.push", f"+{BRANCH}:{BRANCH}")
    tree.git("config", "remote.origin.mirror", "true")

    found = await pushed(workspace)

    assert found.outcome == "not_fast_forward"
    assert "has commits that are not in this one" in found.text
    assert tree.git("rev-parse", BRANCH, cwd=origin) == theirs


async def test_protected_branch_is_refused_with_the_remote_s_words(
    tree: UserTree, origin: Path, workspace: Workspace
) -> None:
    """Issue."""
    hook = origin / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'You may not push to protected branches.' >&2\nexit 1\n")
    hook.chmod(0o755)

    found = await pushed(workspace)

    assert found.outcome == "refused"
    assert "You may not push to protected branches." in found.text


async def test_default_branch_is_refused_unless_it_is_allowed(
    tree: UserTree, origin: Path, workspace: Workspace
) -> None:
    """Issue. The remote tells which it is; where it cannot, main and master are."""
    assert (await pushed(workspace, branch="main")).outcome == "default_branch"
    assert (await pushed(workspace, branch="main", allow_default=True)).outcome == "updated"
    tree.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=origin)
    assert (await pushed(workspace, branch="master")).outcome == "default_branch"
    assert (await pushed(workspace, branch="trunk")).outcome in ("new", "default_branch")
    tree.git("update-ref", "refs/heads/trunk", "main", cwd=origin)
    assert (await pushed(workspace, branch="trunk")).outcome == "default_branch"


async def test_settings_of_the_repository_turn_no_push_aside(
    tree: UserTree, origin: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """Issue. insteadOf, a hook, a proxy and a helper of the repository: not used, and said."""
    evil = tmp_path / "evil.git"
    tree.git("init", "-q", "--bare", str(evil))
    tree.git("config", f"url.file://{evil}.insteadOf", f"file://{origin}")
    tree.git("config", f"url.file://{evil}.pushInsteadOf", f"file://{origin}")
    tree.git("config", "remote.origin.receivepack", f"touch {tmp_path}/ran; git-receive-pack")
    tree.git("config", "credential.helper", f"!touch {tmp_path}/ran")
    tree.write(".git/hooks/pre-push", f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n").chmod(0o755)

    found = await pushed(workspace)

    assert found.outcome == "new"
    assert tree.git("rev-parse", BRANCH, cwd=origin) == found.sha
    assert tree.git("for-each-ref", cwd=evil) == ""
    assert not (tmp_path / "ran").exists()
    assert len(found.notes) == 4
    assert any("insteadof" in one for one in found.notes)


async def test_user_s_own_insteadof_counts(tree: UserTree, origin: Path, workspace: Workspace) -> None:
    """Ours."""
    tree.git("config", "--global", f"url.file://{origin}.insteadOf", "https://example.org/x")

    assert (await pushed(workspace, "https://example.org/x")).outcome == "new"


async def test_remote_that_is_not_there_is_said_with_those_that_are(tree: UserTree, workspace: Workspace) -> None:
    """Issue."""
    tree.git("remote", "add", "mine", f"file://{tree.top.parent}/nothing.git")

    unknown, gone = await pushed(workspace), await pushed(workspace, "mine")

    assert unknown.outcome == "no_remote"
    assert "mine" in unknown.text
    assert gone.outcome == "no_remote"
    assert "nothing.git" in gone.text


async def test_a_folder_of_this_machine_is_not_pushed_to_and_why_is_said(
    tree: UserTree, workspace: Workspace, tmp_path: Path
) -> None:
    """Ours. Its hooks would run as this user."""
    tree.git("init", "-q", "--bare", str(tmp_path / "bare"))
    tree.git("remote", "add", "near", str(tmp_path / "bare"))

    done = await push(workspace, "near", BRANCH)

    assert done.outcome == "failed"
    assert "only https, http, ssh and git URLs are pushed to" in done.text


HEARD: list[str] = []
"""Logins that the server was told, and command lines with the password."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = await reader.readuntil(b"\r\n\r\n")
    HEARD.extend(line for line in asked.decode().splitlines() if line.startswith("Authorization"))
    HEARD.extend(path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if "hunter2" in path.read_text())
    writer.write(
        b'HTTP/1.1 401 no\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    )
    await writer.drain()
    writer.close()


async def test_login_that_is_missing_is_said_at_once_and_passwords_are_in_no_message(
    tree: UserTree, workspace: Workspace
) -> None:
    """Issue. Nobody is asked. No command line holds one either, as everybody on the machine may read those."""
    HEARD.clear()
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(20):
        plain = await push(workspace, f"http://127.0.0.1:{port}/x.git", BRANCH)
        wrong = await push(workspace, f"http://bot:hunter2@127.0.0.1:{port}/x.git", BRANCH)

    assert plain.outcome == wrong.outcome == "no_login"
    assert "hunter2" not in repr(wrong)
    assert set(HEARD) == {"Authorization: Basic Ym90Omh1bnRlcjI="}
    assert wrong.url == f"http://***@127.0.0.1:{port}/x.git"


async def test_remote_that_never_answers_is_given_up(tree: UserTree, workspace: Workspace) -> None:
    """Issue. The listening socket takes the call and says nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with asyncio.timeout(10):
            found = await push(
                workspace, f"http://127.0.0.1:{silent.getsockname()[1]}/x.git", BRANCH, timeout_s=0.5
            )  # fmt: skip

    assert found.outcome == "timeout"


async def test_protocols_that_run_programs_or_read_this_disk_are_off(
    tree: UserTree, origin: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """Issue."""
    tree.git("remote", "add", "evil", f"ext::touch {tmp_path}/ran")
    for remote in ("evil", "origin"):
        found = await push(workspace, remote, BRANCH)
        assert found.outcome == "failed"
        assert "not allowed" in found.text
    assert not (tmp_path / "ran").exists()


async def test_nothing_to_push_and_names_that_are_none_are_bad_input(tree: UserTree, tmp_path: Path) -> None:
    """Ours."""
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadInput, match="no Git repository"):
        await push(tmp_path / "plain", "origin", BRANCH)
    with pytest.raises(BadInput, match="no name of a branch"):
        await push(tree.top, "origin", "--force")
    fresh = UserTree(tmp_path / "fresh", tmp_path / "user")
    fresh.top.mkdir()
    fresh.git("init", "-q")
    with pytest.raises(BadInput, match="no commit yet"):
        await push(fresh.top, "origin", BRANCH)


async def test_shallow_clone_can_be_pushed_from(tree: UserTree, origin: Path, tmp_path: Path) -> None:
    """Ours. CI clones are shallow."""
    tree.commit("two")
    tree.git("push", "-q", "origin", "main")
    clone = UserTree(tmp_path / "shallow", tmp_path / "user")
    tree.git("clone", "-q", "--depth=1", f"file://{origin}", str(clone.top))
    clone.write("x.c")
    clone.commit()

    assert (await pushed(clone.top)).outcome == "new"


def test_login_is_taken_out_of_every_url() -> None:
    """Issue."""
    text = "fatal: https://me:pw@h/x and ssh://git@h/y, 'http://token@h'"

    assert without_login(text) == "fatal: https://***@h/x and ssh://***@h/y, 'http://***@h'"
