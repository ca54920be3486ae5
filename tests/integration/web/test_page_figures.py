"""The page in a real browser: charts with data, two builds compared, and a service that is away for a moment."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.events import append
from tests.support.browser import CHROMIUM, Browser, browser
from tests.support.figures import add, compiled, ran
from tests.support.left_files import build_that_left
from tests.support.shown import no_worker, served

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"), pytest.mark.timeout(120)]
CHARTS = """[...document.querySelectorAll('.charts figure')].map((one) => [
  one.querySelector('figcaption').textContent,
  ...['.point', '.badline', 'tbody tr'].map((what) => one.querySelectorAll(what).length)])"""
AWAY = """(() => { window.asked = 0; window.real = window.fetch; window.fetch = (path, ...more) => {
  if (!/^.api.(builds|stats|queue)/.test(path)) return real(path, ...more);
  asked += 1;
  return Promise.resolve(new Response('{"detail": "the database is locked"}', { status: 503 })); } })()"""
BACK = "window.fetch = window.real"
BEHIND = "document.querySelector('#behind').textContent"


def fill(c: sa.Connection) -> None:
    """Three builds of a project, the last one failed."""
    lines = {"lines": {"covered": 3, "total": 4}, "files": [], "file_count": 0, "sources": [], "note": ""}
    for number in (1, 2, 3):
        weights = {"image": 900_000 + number, "sections": {"data": 100 * number, "bss": 5}}
        status = "failed" if number == 3 else "success"
        tests = ran(level="fail", blinks="pass", fades="pass")
        add(c, {"compile": compiled(number), "sizes": weights, "coverage": lines, "tests": tests}, status=status)


async def test_charts_are_drawn_builds_compared_and_a_view_asks_again_by_itself(home: Path, tmp_path: Path) -> None:
    """Issue. Each figure of each build is a point, a failed one's a cross; a service that was away is asked again."""
    orchestrator = Orchestrator(load_config())
    store = await orchestrator.store()
    await store.write(fill)
    for number, content in ((4, b"firmware"), (5, b"<b>other</b> firmware")):
        assert await build_that_left(orchestrator, tmp_path / str(number), {"a.bin": content, "s": b"s"}) == number

    async def happens() -> None:
        await store.write(lambda c: append(c, "build.status", 5, SystemClock().now(), {"status": "success"}))

    with no_worker(home), served() as address:
        async with browser(tmp_path / "profile") as page:
            await page.size(1280, 900)
            await page.go(f"{address}/#/stats/valve")
            await page.until("document.querySelectorAll('.charts svg .point').length >= 15")
            charts = {row[0].partition(":")[0]: row[1:] for row in await page.ask(CHARTS)}
            assert {"Duration", "Program in flash", "Time to compile", "Lines covered", "Tests that passed"} <= set(
                charts
            )
            assert all(drawn == [3, 1, 3] for drawn in charts.values()), charts
            assert "gpio.level" in await page.ask("document.querySelector('main').textContent")

            await compare(page, address)
            for view in ("#/build/5", "#/"):
                await away_and_back(page, f"{address}/{view}", happens)
            assert page.complaints == []
    await orchestrator.aclose()


async def compare(page: Browser, address: str) -> None:
    """By the form on a build's page; a build that is not there is said."""
    await page.go(f"{address}/#/build/5")
    await page.until("document.querySelector('#compare')")
    await page.ask("document.querySelector('#compare').form.requestSubmit()")
    await page.until(
        "document.querySelector('caption') && [...document.querySelectorAll('caption')]"
        ".some((one) => one.textContent === 'Files against build 4')"
    )
    shown = await page.ask("document.querySelector('[aria-live=polite] table').innerText.replace(/\\s+/g, ' ')")
    assert "a.bin changed 21 8" in shown
    assert "1 file unchanged" in await page.ask("document.querySelector('main').textContent")
    await page.ask(
        "document.querySelector('#compare').value = 99; document.querySelector('#compare').form.requestSubmit()"
    )
    await page.until("document.querySelector('section .problem')?.textContent === 'there is no build 99'")


async def away_and_back(page: Browser, address: str, happens: Callable[[], Awaitable[None]]) -> None:
    """A refresh that fails is said and tried again, without another event; a view that was left asks no more."""
    await page.go("about:blank")
    await page.go(address)
    await page.until(
        "document.querySelector('main > div h1') && document.querySelector('#link').textContent.includes('live')"
    )
    await page.ask(AWAY)
    await happens()
    await page.until(
        f"{BEHIND} === 'What is shown may be old: the database is locked. It is asked for again by itself.'"
    )
    await page.until("asked >= 2")
    await page.ask(BACK)
    await page.until(f"{BEHIND} === ''")
    await page.ask(AWAY)
    await happens()
    await page.until(f"{BEHIND} !== ''")
    await page.ask("location.hash = '#/hosts'")
    await page.until(f"{BEHIND} === '' && document.querySelector('h1').textContent === 'Hosts and boards'")
    await page.ask("location.hash = '#/queue'")
    await page.until("document.querySelector('h1').textContent === 'This cannot be shown'")
    await page.ask(BACK)
    await page.until("document.querySelector('h1').textContent === 'Queue'")
