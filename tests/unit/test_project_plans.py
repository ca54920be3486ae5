"""A checkout where the clone that it is of is not there yet, as on another machine."""

import os
import subprocess
from pathlib import Path

from mcp_server.model import Plan
from mcp_server.places import place_of
from mcp_server.project_plans import Checkout

LOCAL_TOO = {"GIT_ALLOW_PROTOCOL": "file", "GIT_CONFIG_GLOBAL": "/dev/null"}


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", *names, *words], cwd=folder, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def run(checkout: Checkout, **environment: str) -> subprocess.CompletedProcess[str]:
    params = checkout.stage().params
    env = {**os.environ, **params["env"], **environment}
    return subprocess.run(params["argv"], env=env, cwd="/", capture_output=True, text=True, timeout=20, check=False)


def test_a_checkout_clones_first_where_the_clone_is_not_there(tmp_path: Path) -> None:
    """Issue: projects from Git are checked out anew by whichever worker builds them."""
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    for text in ("first", "second"):
        (source / "file").write_text(text)
        git(source, "add", "file")
        git(source, "commit", "-qm", text)
    first = git(source, "rev-parse", "HEAD~1")
    git(source, "config", "uploadpack.allowAnySHA1InWant", "true")
    top, folder, url = tmp_path / "projects" / "p", tmp_path / "worktrees" / "project-1", f"file://{source}"
    top.parent.mkdir()
    checkout = Checkout(str(top), str(folder), first, None, origin=True, reach=None, origin_url=url)

    refused = run(checkout)
    assert (refused.returncode != 0, list(top.parent.iterdir())) == (True, [])  # as an import would be
    assert "transport 'file' not allowed" in refused.stderr
    done = run(checkout, **LOCAL_TOO)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "file").read_text() == "first"
    assert [path.name for path in top.parent.iterdir()] == ["p"]
    (top / "mine").write_text("stays")
    again = Checkout(str(top), str(folder), None, "main", origin=True, reach=None, origin_url=url)
    assert run(again, **LOCAL_TOO).returncode == 0
    assert ((folder / "file").read_text(), (top / "mine").read_text()) == ("second", "stays")


def test_only_a_clone_of_ours_can_be_built_elsewhere() -> None:
    """Issue: what is a folder of its user stays on its machine."""

    def place(url: str | None) -> str | None:
        stage = Checkout(
            "/h/projects/p", "/h/worktrees/x", None, "main", origin=True, reach=None, origin_url=url
        ).stage()
        return place_of(Plan(stages=(stage,)), Path("/h"), "feed", lambda name: [name])

    assert (place("https://example.org/p.git"), place(None)) == ("home:/h", "machine:feed")
