"""Orders of bots that are pushed: where to, who is asked, and what is told before an agent works."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.agents import push as push_module
from mcp_server.errors import Conflict, NotAgreed
from mcp_server.model import BuildStatus
from mcp_server.orchestrator import Orchestrator
from mcp_server.secret_store import set_secret
from tests.support.bot_orders import Order, built, callback, hook, summaries
from tests.support.git_tree import UserTree, begun
from tests.support.http_peer import Got, http_peer
from tests.support.woodpecker import TOKEN, Woodpecker, pipeline, step

pytestmark = pytest.mark.worker_inside


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserTree:
    """A remote with a default branch, which the tests may push to over file://."""
    monkeypatch.setattr(push_module, "PROTOCOLS", ("file",))
    place = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", place], check=True)
    return UserTree(place, tmp_path)


@pytest.fixture
def tree(tmp_path: Path, bare: UserTree) -> UserTree:
    """A user's page in a repository, pushed to the remote."""
    tree = begun(tmp_path / "mine", tmp_path)
    tree.write("page.txt", "bad day\n")
    check = "pipeline:\n  name: p\n  stages:\n    - {name: check, command: grep good page.txt, retry: 0}\n"
    tree.write(".build-orchestrator.yaml", check)
    tree.commit("a page")
    tree.git("remote", "add", "origin", f"file://{bare.top}")
    tree.git("push", "-q", "origin", "main")
    return tree


class CiOf(Woodpecker):
    """Has a pipeline for what lies on the newest branch of a bare repository, as a forge's hook would make it."""

    remote: UserTree

    def _answer(self, got: Got) -> bytes:
        if "/repos/lookup/" in got.path:
            return self._json({"id": 7, "full_name": "owner/name"})
        sha = self.remote.git("for-each-ref", "--format=%(objectname)", "refs/heads/bo/")
        self.looks = [[pipeline(5, sha, "success", step(2, "deploy", "success"))] if sha else []]
        self.logs = {2: ["deploy_url=https://page.example"]}
        return super()._answer(got)


async def test_a_deployed_order_is_pushed_and_has_its_place(
    orchestrator: Orchestrator, order: Order, tree: UserTree, bare: UserTree, home: Path
) -> None:
    """Seed. auto_deploy: commit, push, CI's verdict, where it was deployed; the user's own tree is as it was."""
    set_secret(home / "secrets", "WP", TOKEN)
    async with http_peer() as receiver, http_peer() as peer:
        ci = CiOf(peer)
        ci.remote, peer.talk = bare, ci.talk
        (home / "config.yaml").write_text(
            'security: {callback_hosts: ["127.0.0.1"], allow_push: always}\n'
            f'ci: {{woodpecker: {{url: "{ci.url}", token: "${{secret:WP}}"}}}}\n'
        )
        before = tree.everything(but="bo/build-1")
        spec = order(template=None, name=None, variables={}, project=str(tree.top), auto_deploy=True)
        async with asyncio.timeout(40):
            await orchestrator.workflows.create(spec.model_copy(update={"callback_url": hook(receiver)}))
            told = await callback(receiver, home)

    result = told["result"]
    assert result["success"], result
    assert result["artifacts"]["deploy_url"] == "https://page.example"
    assert result["commit_sha"] == bare.git("rev-parse", "bo/build-1")
    assert bare.git("log", "--format=%s", "main..bo/build-1") == "Make the page good"
    assert tree.everything(but="bo/build-1") == before


async def test_a_push_is_asked_for_forbidden_or_allowed(
    orchestrator: Orchestrator, order: Order, tree: UserTree, home: Path
) -> None:
    """Issue. As flashing is."""
    spec = order(template=None, name=None, variables={}, project=str(tree.top), auto_push=True)

    with pytest.raises(NotAgreed, match=r"Push branch bo/build-N of mine to origin\?"):
        await orchestrator.workflows.create(spec)
    (home / "config.yaml").write_text("security: {allow_push: never}\n")
    with pytest.raises(Conflict, match="allow_push"):
        await orchestrator.workflows.create(spec, agreed=True)
    (home / "config.yaml").write_text("security: {allow_push: ask}\n")
    view = await built(orchestrator, spec, agreed=True)

    assert view.build.status is BuildStatus.SUCCESS, summaries(view)


def dirty(tree: UserTree) -> None:
    tree.write("main/main.c", "changed\n")


def untracked(tree: UserTree) -> None:
    tree.write("new.txt")


def staged(tree: UserTree) -> None:
    tree.write("new.txt")
    tree.git("add", "new.txt")


def without_remote(tree: UserTree) -> None:
    tree.git("remote", "remove", "origin")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (dirty, "not committed"),
        (untracked, "not committed"),
        (staged, "not committed"),
        (without_remote, "no remote origin"),
    ],
)
async def test_what_cannot_be_pushed_is_told_before_the_agent_works(
    orchestrator: Orchestrator, order: Order, tree: UserTree, spoil: Callable[[UserTree], object], why: str
) -> None:
    """Issue. Nobody is shown what its user has not committed."""
    spoil(tree)
    view = await built(
        orchestrator, order(template=None, name=None, variables={}, project=str(tree.top), auto_push=True), agreed=True
    )

    assert view.build.status is BuildStatus.FAILED
    assert why in summaries(view)["look"]
    assert "work" not in {row.stage for row in view.stages if row.started_at}


async def test_a_refused_push_sends_no_agent_back_to_work(
    orchestrator: Orchestrator, order: Order, tree: UserTree, bare: UserTree
) -> None:
    """Ours. No change of the sources would mend it; the default branch is nobody's to push to."""
    spec = order(template=None, name=None, variables={}, project=str(tree.top), auto_push=True, branch="next")
    bare.git("branch", "next", "main")
    bare.git("symbolic-ref", "HEAD", "refs/heads/next")
    view = await built(orchestrator, spec, agreed=True)

    assert view.build.status is BuildStatus.FAILED
    assert (view.stages[-1].stage, view.build.round) == ("push", 1)
    assert bare.git("rev-parse", "next") == bare.git("rev-parse", "main")
