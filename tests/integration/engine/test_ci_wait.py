"""The stage kind `ci.wait`: config.yaml to verdict."""

import asyncio
from pathlib import Path

from mcp_server.engine.stages.ci_wait import CiWait
from mcp_server.model import Verdict
from mcp_server.secret_store import set_secret
from tests.support.stage_context import stage_context
from tests.support.woodpecker import TOKEN, Woodpecker, pipeline, step, woodpecker

COMMIT = "c0ffee" * 6 + "abcd"


async def run(home: Path, server: Woodpecker | None) -> Verdict:
    if server is not None:
        (home / "config.yaml").write_text(
            f'ci: {{woodpecker: {{url: "{server.url}", token: "${{secret:WOODPECKER_TOKEN}}"}}}}\n'
        )
    context = stage_context("ci.wait", {"repo": "https://git.example/owner/name.git", "commit": COMMIT})
    async with asyncio.timeout(10):
        return await CiWait().run(context)


async def test_a_commit_that_passes_has_its_place(home: Path) -> None:
    """Issue. The token comes from the secret that config.yaml names."""
    set_secret(home / "secrets", "WOODPECKER_TOKEN", TOKEN)
    async with woodpecker() as server:
        server.looks = [[pipeline(5, COMMIT, "success", step(2, "deploy", "success"))]]
        server.logs = {2: ["deploy_url=https://myapp.example"]}
        verdict = await run(home, server)

    assert (verdict.result, verdict.summary) == ("pass", "CI passed, https://myapp.example")
    assert verdict.details["deploy_url"] == "https://myapp.example"


async def test_a_commit_that_fails_names_the_step(home: Path) -> None:
    """Issue."""
    set_secret(home / "secrets", "WOODPECKER_TOKEN", TOKEN)
    async with woodpecker() as server:
        server.looks = [[pipeline(5, COMMIT, "failure", step(2, "build", "failure", 1))]]
        server.logs = {2: ["no such file"]}
        verdict = await run(home, server)

    assert verdict.result == "fail"
    assert verdict.summary == f"CI says failure in build: {server.url}/repos/7/pipeline/5"
    assert verdict.details["failed_steps"][0]["lines"] == ("no such file",)
    assert verdict.model_dump_json()


async def test_what_is_missing_is_told_with_what_brings_it(home: Path) -> None:
    """Ours."""
    assert "config.yaml names no CI" in (await run(home, None)).summary
    async with woodpecker() as server:
        assert "secrets set WOODPECKER_TOKEN" in (await run(home, server)).summary
