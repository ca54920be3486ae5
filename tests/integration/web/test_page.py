"""The page in a real browser: why a build failed in two clicks, hostile text, and logging in."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server.demo.place import lay_out, simulated_installation
from tests.support.browser import CHROMIUM, Browser, browser
from tests.support.workers import end_everything

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"),
    pytest.mark.timeout(120),
]
HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
PIPELINE = f"""pipeline:
  name: hostile
  stages:
    - name: shout
      command: "echo '{HOSTILE}'; echo 'a.c:1:1: error: {HOSTILE}'; exit 1"
"""
IN_SIGHT = """[...document.querySelectorAll('#cause, .place, .excerpt mark')].map((n) => {
  const r = n.getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight && r.width > 0 })"""


def tell(*arguments: str, **more: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "mcp_server", *arguments]
    environment = {**os.environ, "IDF_PATH": str(simulated_installation()), **more}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.fixture
def address(home: Path, tmp_path: Path) -> Iterator[str]:
    """A service with two builds that failed: of a misspelt name, and of one whose log is an attack."""
    project = lay_out(tmp_path / "greenhouse")
    (tmp_path / "hostile.yaml").write_text(PIPELINE)
    tell("run", "--project", str(project))
    tell("run", str(tmp_path / "hostile.yaml"), "--project", str(project))
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+) is open", process.stderr.readline())
        assert found
        yield found[1]
    finally:
        process.kill()
        process.communicate()
        end_everything(home)


async def test_why_a_build_failed_is_two_clicks_away_and_hostile_text_stays_text(address: str, tmp_path: Path) -> None:
    """Issue. Open the page, click the red build: cause, place and log are in sight. Then a login by hand."""
    async with browser(tmp_path / "profile") as page:
        for width, height in ((1280, 800), (390, 844)):
            await page.size(width, height)
            await page.go(f"{address}/#/")
            await page.click("tr[data-href='1'] a")
            await page.until("document.querySelector('.excerpt mark')")
            assert await page.ask(IN_SIGHT) == [True, True, True], (width, height)
            assert "valve_opne" in await page.ask("document.querySelector('#cause').textContent")
            assert (await page.ask("document.querySelector('.place').textContent")) == "main/thermostat.c:8:9"
            assert await page.ask("document.documentElement.scrollWidth") <= width
        await page.until("document.querySelector('.log li.here')")  # the log is open at its first mistake
        await again(page, address)
        await attack(page, address)
        await log_in(page, address)
        assert page.complaints == []


async def again(page: Browser, address: str) -> None:
    """The failed build started again by its button, and what it comes to shown; then one cancelled, with force."""
    await page.click("button.main")
    await page.until("location.hash === '#/build/3'")
    await page.until("document.querySelector('.verdict.failed #cause')?.textContent.includes('valve_opne')", 40)
    slow = {"yaml": "pipeline: {name: slow, stages: [{name: s, command: sleep 100}]}", "project": "greenhouse"}
    asked = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": json.dumps(slow)}
    # The answer that says `pending` comes late, behind the event that it runs; after that nothing happens for long.
    # And it is said to wait for a machine that is away.
    await page.ask(
        "(() => { const real = window.fetch; let late = 1500; window.fetch = async (...given) => {"
        " if (given[1]?.method === 'POST') window.posted = given[0];"
        " const answer = await real(...given); if (!/builds.4$/.test(given[0])) return answer;"
        " await new Promise((done) => setTimeout(done, late)); late = 0;"
        " return Response.json({ ...await answer.json(), idle: 'waits for machine kiln' }) } })()"
    )
    order = f"fetch('/api/pipelines', {json.dumps(asked)}).then((a) => a.json())"
    assert (
        await page.ask(
            f"{order}.then((made) => {{ location.hash = `#/build/${{made.build_id}}`; return made.build_id }})"
        )
        == 4
    )
    await page.until(
        "document.querySelector('h1').textContent === 'Build 4' && document.querySelector('.badge.running')", 40
    )
    await page.click("button.end")
    said = await page.ask("document.querySelector('dialog').textContent")
    assert "Nobody works on it now: waits for machine kiln" in said
    await page.click("dialog input[type=checkbox]")
    await page.click("dialog button.end")
    await page.until("window.posted === '/api/builds/4/cancel?force=true'")
    await page.until("document.querySelector('h1 + .badge.cancelled')", 40)


async def attack(page: Browser, address: str) -> None:
    """Every view of the build whose log is HTML shows it as text."""
    await page.go(f"{address}/#/build/2")
    await page.until("document.querySelector('.log')?.textContent.includes('onerror=window.hit')")
    assert await page.ask("[document.querySelectorAll('main img, main script').length, window.hit ?? 0]") == [0, 0]
    for view in ("#/", "#/stats", "#/hosts", "#/build/99"):
        await page.ask(f"location.hash = {json.dumps(view)}")
        await page.until("document.querySelector('main h1')")
    assert await page.ask("window.hit ?? 0") == 0


async def log_in(page: Browser, address: str) -> None:
    """A token once, typed in; then the page works by its cookie, events and changes included."""
    text = re.search(r"bo_\w{12}_[\w-]{43}", await asyncio.to_thread(tell, "tokens", "create", "anna"))
    assert text
    await page.go("about:blank")
    await page.go(f"{address}/#/build/2")
    await page.until("document.querySelector('#token')")
    await page.send("Input.insertText", text=text[0])
    await page.click("form.login button")
    await page.until("document.querySelector('.verdict')")
    await page.until("document.querySelector('#link').textContent.includes('live')")
    assert await page.ask("document.cookie") == ""
    await page.ask("document.querySelector('#logout').click()")
    await page.until("document.querySelector('#token')")
