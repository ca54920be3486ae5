"""The repository of a created project: made with plain git, no hook and no template of the user's run."""

import asyncio
import contextlib
import os
import re
import shutil
from pathlib import Path

from mcp_server.errors import BadInput, EnvironmentMissing
from mcp_server.templates.program import Bounds, run
from mcp_server.text import one_line

GIT_S = 60.0
MESSAGE = "Made from a template"

_AUTHOR = re.compile(r"(?P<name>[^<>\x00-\x1f\x7f]{1,200}?) *<(?P<mail>[^<>\s\x00-\x1f\x7f]{1,200})>")


async def first_commit(folder: Path, author: str, message: str = MESSAGE, branch: str = "main") -> str:
    """Make `folder` a repository with one commit of all that its .gitignore does not name; the commit's id.

    `author` reads `Name <mail>`. A repository that has a commit already is left as it is, and that one is returned; one
    without is gone on with. BadInput: the author, or git's own words.
    """
    says = _AUTHOR.fullmatch(author.strip())
    if says is None:
        raise BadInput("author", "should be like: Name <mail@example.org>")
    git = shutil.which("git")
    if git is None:
        raise EnvironmentMissing("git is not installed: apt-get install git")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": "/nonexistent",  # no settings of the user's: neither hooks nor filters nor signing
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        **{f"GIT_{who}_NAME": says["name"].strip() for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": says["mail"] for who in ("AUTHOR", "COMMITTER")},
    }
    safe = [git, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false"]
    safe += ["-c", "gc.auto=0", "-c", "core.autocrlf=false", "-C", str(folder)]

    async def ask(*arguments: str) -> str:
        code, said = await run(
            [*safe, *arguments],
            environment,
            folder,
            limit_s=GIT_S,
            writes=folder,
            bounds=Bounds(100_000, 1_000_000_000),
        )
        if code != 0:
            why = one_line((said.strip() or f"git ended with {code}").splitlines()[-1], 300)
            raise BadInput("destination", f"{folder}: git {arguments[0]}: {why}")
        return said.strip()

    if await asyncio.to_thread((folder / ".git").exists):
        with contextlib.suppress(BadInput):
            return await ask("rev-parse", "--verify", "--quiet", "HEAD")
    await ask("init", "--quiet", "--template=", f"--initial-branch={branch}")
    await ask("add", "--all", "--", ".")
    await ask("commit", "--quiet", "--no-verify", "--allow-empty", "-m", message)
    return await ask("rev-parse", "HEAD")
