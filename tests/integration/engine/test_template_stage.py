"""The stage kind `template`, begun once and begun again."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from mcp_server.engine.stages.template import Template
from mcp_server.model import Verdict
from tests.support.extras import need
from tests.support.stage_context import stage_context

need("copier")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


async def run(**params: Any) -> Verdict:
    async with asyncio.timeout(20):
        return await Template().run(stage_context("template", params))


async def test_a_stage_that_begins_again_leaves_what_it_made(tmp_path: Path) -> None:
    """Ours: a worker may die at any moment. The second run finds the project and its commit."""
    params = {"template": "web-page", "destination": str(tmp_path / "p"), "variables": {"name": "a"}}
    params["author"] = "A <a@example.org>"
    first = await run(**params)
    (tmp_path / "p" / "index.html").write_text("changed")
    second = await run(**params)

    assert (first.result, first.summary) == ("pass", "p made of web-page")
    assert (second.result, second.summary) == ("pass", "p was already made of web-page")
    assert first.details == second.details
    assert len(first.details["commit_sha"]) == 40
    assert (tmp_path / "p" / "index.html").read_text() == "changed"


async def test_what_is_wrong_is_the_verdict(tmp_path: Path) -> None:
    """Ours. Also where a project of other variables is there."""
    there = {"template": "web-page", "destination": str(tmp_path / "p")}
    assert (await run(**there, variables={})).summary.startswith("variables: name is missing")
    await run(**there, variables={"name": "a"})
    refused = await run(**there, variables={"name": "b"})

    assert (refused.result, refused.summary) == (
        "fail",
        f"destination: {tmp_path / 'p'} is there already and not empty",
    )
