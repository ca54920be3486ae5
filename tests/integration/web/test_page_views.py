"""Every view of the page in a real browser: for assistive technology, under hostile names, and through a lost link."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.clock import SystemClock
from mcp_server.config import load_config
from mcp_server.orchestrator import Orchestrator
from mcp_server.store.events import append
from tests.support.browser import CHROMIUM, Browser, browser
from tests.support.shown import AXE, Shown, axe_script, no_worker, served

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"), pytest.mark.timeout(180)]
VIEWS = ("#/", "#/queue", "#/projects", "#/hosts", "#/stats", "#/build/1", "#/build/2", "#/build/3", "#/build/4")
ATTACK = "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'`${window.hit=1}&lt;b&gt;"
TURNED = "\u202e\u2066\u200b\u0301\u0301"
READY = "document.querySelector('main > div h1') && !document.querySelector('main[aria-busy]')"


async def look(page: Browser, scheme: str) -> None:
    """Let the page be light or dark, without motion."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    await page.send("Emulation.setEmulatedMedia", features=features)


async def press(page: Browser, key: str) -> None:
    """Press a key and let it go."""
    text: dict[str, str | int] = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    text |= {"windowsVirtualKeyCode": 27} if key == "Escape" else {}
    await page.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
    await page.send("Input.dispatchKeyEvent", type="keyUp", key=key)


@pytest.mark.skipif(not AXE, reason="no axe-core: BO_TEST_AXE names its axe.min.js")
async def test_every_view_is_fit_for_assistive_technology(home: Path, tmp_path: Path) -> None:
    """Issue. No violation that axe knows, light and dark, wide and on a phone, dialogs too."""
    await Shown(home).fill()
    found: list[str] = []
    with no_worker(home), served() as address:
        async with browser(tmp_path / "profile") as page:
            for view in VIEWS:
                await page.size(1280, 900)
                await page.go("about:blank")
                await page.go(f"{address}/{view}")
                await page.until(READY)
                for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 390)):
                    await look(page, scheme)
                    await page.size(width, 900)
                    found += [f"{view} {scheme} {width}: {one}" for one in await page.ask(axe_script())]
            await page.ask("document.querySelector('#help').click()")
            await page.until("document.querySelector('dialog[open]')")
            found += await page.ask(axe_script())
            await page.ask(
                "document.querySelector('dialog').close(); document.dispatchEvent(new Event('login-needed'))"
            )
            await page.until("document.querySelector('#token')")
            found += await page.ask(axe_script())
            assert found == []
            assert page.complaints == []


async def test_hostile_names_are_text_and_break_no_layout(home: Path, tmp_path: Path) -> None:
    """Issue: XSS through log lines, branch and file names; and what turns writing around, or is one endless word."""
    await Shown(home, lambda text: f"{ATTACK}{TURNED}{text}{'W' * 300}").fill()
    with no_worker(home), served() as address:
        async with browser(tmp_path / "profile") as page:
            for view in VIEWS:
                await page.size(1280, 900)
                await page.go("about:blank")
                await page.go(f"{address}/{view}")
                await page.until(READY)
                if view == "#/build/1":
                    await page.until(
                        "document.querySelector('.log li.here') && document.querySelector('.excerpt mark')"
                    )
                for width in (1280, 768, 390):
                    await page.size(width, 900)
                    assert await page.ask("document.documentElement.scrollWidth") <= width, (view, width)
                shown = await page.ask("document.querySelector('main').textContent + document.title")
                assert view != "#/build/1" or "not run: build failed" in shown.lower(), shown
                assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b]", shown), view
                assert await page.ask(
                    "[document.querySelectorAll('main img, main script').length, window.hit ?? 0]"
                ) == [
                    0,
                    0,
                ]
            assert page.complaints == []


async def test_a_lost_link_is_said_and_no_event_is_lost(home: Path, tmp_path: Path) -> None:
    """Issue: live. The service is started anew under an open page; what happened meanwhile comes once, in order."""
    await Shown(home).fill()
    orchestrator = Orchestrator(load_config())
    store = await orchestrator.store()

    def statements(c: sa.Connection, count: int) -> None:
        for _ in range(count):
            append(c, "build.status", 1, SystemClock().now(), {"status": "failed"})

    async def happen(count: int) -> None:
        await store.write(lambda c: statements(c, count))

    with no_worker(home):
        async with browser(tmp_path / "profile") as page:
            with served() as address:
                await page.size(1280, 900)
                await page.go(f"{address}/#/build/1")
                await page.until("document.querySelector('#link').textContent.includes('live')")
                await page.ask(
                    "import('/page/api.js').then(({ live }) => {"
                    " window.seen = []; live.on((e) => { if (e.id) seen.push(e.id) }) })"
                )
                before = await page.ask("document.querySelectorAll('.story li').length")
                await reads_on(page, happen)
            await page.until("document.querySelector('#offline').textContent.startsWith('Not connected')")
            await happen(700)  # more than the service reads at once
            last = await orchestrator.last_event()
            with served(int(address.rpartition(":")[2])):
                await page.until(f"seen.at(-1) === {last}", 60)
                await page.until("document.querySelector('#offline').textContent === ''")
                assert await page.ask("seen.every((id, at) => at === 0 || id === seen[at - 1] + 1)")
                assert await page.ask("seen.length") == 710
                assert before < await page.ask("document.querySelectorAll('.story li').length") <= 500
    await orchestrator.aclose()
    assert page.complaints == []


async def reads_on(page: Browser, happen: Callable[[int], Awaitable[None]]) -> None:
    """Searching and reading a log by keys; events take neither focus nor place from who does."""
    await page.until("document.querySelector('.log li.here')?.textContent.includes('unknown name')")
    said = "document.querySelector('form[aria-label=Log] [role=status]').textContent"
    assert await page.ask(said) == "error 1 of 2 · line 2,000 of 3,000"
    await press(page, "e")
    await page.until(f"{said} === 'error 2 of 2 · line 2,500 of 3,000'")
    await press(page, "E")
    await page.until(f"{said} === 'error 1 of 2 · line 2,000 of 3,000'")
    await press(page, "/")
    await page.send("Input.insertText", text="STEP 7 of")
    await press(page, "Enter")
    await page.until(f"{said} === 'match 1 of 1 · line 7 of 3,000'")
    assert await page.ask("document.querySelector('.log li.here mark').textContent") == "step 7 of"
    assert await page.ask("document.querySelector('.log ol').start") == 1
    where = "[document.activeElement.type, document.querySelector('.log').scrollTop, scrollY]"
    before = await page.ask(where)
    assert before[0] == "search"
    await happen(10)
    await page.until("seen.length === 10")
    await page.ask("new Promise((done) => setTimeout(done, 600))")  # the page draws itself anew, at most every 250 ms
    assert await page.ask(where) == before
    await press(page, "Escape")
    await press(page, "?")
    await page.until("document.querySelector('dialog[open]').contains(document.activeElement)")
    await press(page, "Escape")
    await page.until("!document.querySelector('dialog') && document.activeElement.matches('.log')")
