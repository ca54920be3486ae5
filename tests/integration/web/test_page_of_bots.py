"""What bots leave, on the page: what their builds were asked for, and a clone with commits that are nowhere else."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.model import BuildStatus, Plan, StageSpec
from mcp_server.orchestrator import Orchestrator
from mcp_server.store import builds, projects
from tests.support.browser import CHROMIUM, browser
from tests.support.git_tree import begun
from tests.support.shown import AXE, axe_script, no_worker, served

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"), pytest.mark.timeout(120)]
PROMPT = "\n".join(["Dim the lamp <img src=x onerror=window.hit=1>", *(f"step {number}" for number in range(2, 10))])
LINES = "[...document.querySelectorAll('.prompt p')].map((one) => one.innerText.split('\\n').length)"


async def fill(home: Path) -> Path:
    """A build in which an agent works, of a clone with a branch that was never pushed; where that clone is."""
    orchestrator = Orchestrator(load_config())
    clone = begun(home / "projects" / "lamp", home / "user")
    clone.git("checkout", "-q", "-b", "bo/build-1")
    path, now = str(clone.top), SystemClock().now()

    def statements(c: sa.Connection) -> None:
        project = projects.import_project(
            c,
            path=path,
            name="lamp",
            source="https://git.example/lamp",
            status="active",
            target=None,
            branch=None,
            now=now,
        )
        plan = Plan(stages=(StageSpec(name="work", kind="agent.work", params={"prompt": PROMPT}),))
        made, _ = builds.insert_build(c, project, plan, name="bot", args_key="k", now=now)
        builds.set_facts(c, made.id, commit_sha="abc1234", commit_message="Something else")
        builds.end_build(c, made.id, BuildStatus.CANCELLED, "user", now)

    await (await orchestrator.store()).write(statements)
    await orchestrator.aclose()
    return clone.top


async def test_the_page_shows_the_prompt_and_asks_before_commits_are_lost(home: Path, tmp_path: Path) -> None:
    """Ours. The prompt is text, and the headline; the only copy of a branch is deleted at the second yes only."""
    clone = await fill(home)
    with no_worker(home), served() as address:
        async with browser(tmp_path / "profile") as page:
            await page.size(1280, 900)
            await page.go(f"{address}/#/build/1")
            await page.until("document.querySelector('.prompt details')")
            assert await page.ask("document.querySelector('.message').textContent") == PROMPT.partition("\n")[0]
            assert await page.ask("document.querySelector('.prompt summary').textContent") == "3 more lines"
            await page.ask("document.querySelector('.prompt details').open = true")
            assert await page.ask(LINES) == [6, 3]
            said = "[...document.querySelectorAll('.prompt p')].map((one) => one.textContent).join('\\n')"
            assert await page.ask(said) == PROMPT
            assert await page.ask("[document.querySelectorAll('main img').length, window.hit ?? 0]") == [0, 0]

            if AXE:
                assert await page.ask(axe_script()) == []

            await page.go(f"{address}/#/projects")
            for last in ("No, leave it", "Delete all the same"):
                await page.until("document.querySelector('[aria-label=\"Remove lamp\"]:not(:disabled)')")
                await page.ask("document.querySelector('[aria-label=\"Remove lamp\"]').click()")
                await page.ask("document.querySelector('#wipe').click()")
                await page.ask("document.querySelector('dialog .bar button:last-child').click()")
                shown = "document.querySelector('dialog .problem')?.textContent.includes('bo/build-1, main. Nothing')"
                await page.until(shown)
                button = f"[...document.querySelectorAll('dialog button')].find((one) => one.textContent === '{last}')"
                await page.ask(f"{button}.click()")
                await page.until("!document.querySelector('dialog')")
                if last == "No, leave it":
                    assert (clone / "main/main.c").is_file()
            await page.until("document.querySelector('#news').textContent.includes('is deleted')")
            assert page.complaints == []
    assert not clone.exists()
