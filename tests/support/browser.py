"""A real browser for tests: one headless Chromium, told what to do over its own protocol."""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import websockets.asyncio.client as websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_STARTED = re.compile(rb"DevTools listening on (ws://\S+)")


class Browser:
    """One page. `complaints` are what its console said: errors of scripts, and what the policy refused."""

    def __init__(self, socket: websocket.ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session: str | None = None
        self.complaints: list[str] = []

    async def open(self) -> None:
        """Make the page."""
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")

    async def listen(self) -> None:
        """Read what the browser says, for as long as it does."""
        async for text in self._socket:
            told = json.loads(text)
            if (waiting := self._waiting.pop(told.get("id", 0), None)) is not None and not waiting.done():
                waiting.set_result(told)
            elif told.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["params"]["exceptionDetails"])[:500])
            elif told.get("method") == "Log.entryAdded":
                entry = told["params"]["entry"]
                if entry["level"] == "error" and entry["source"] != "network":  # an answer of 404 is none of a page's
                    self.complaints.append(entry["text"])

    async def send(self, method: str, **params: Any) -> Any:
        """What a command answers."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        told = await answer
        assert "result" in told, told
        return told["result"]

    async def size(self, width: int, height: int) -> None:
        """Make the window this large, in CSS pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def go(self, address: str) -> None:
        """Open an address."""
        await self.send("Page.navigate", url=address)

    async def ask(self, script: str) -> Any:
        """The value of an expression on the page."""
        told = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str, timeout_s: float = 15) -> Any:
        """Its value once it is true; the page looks itself, at each of its frames."""
        waited = (
            "new Promise((done) => { const look = () => {"
            f" let v; try {{ v = {script} }} catch {{ v = null }}"
            " if (v) done(v); else setTimeout(look, 20) }; look() })"
        )
        async with asyncio.timeout(timeout_s):
            return await self.ask(waited)

    async def click(self, selector: str) -> None:
        """Click the middle of an element, as a mouse does."""
        box = await self.until(
            f"(() => {{ const n = document.querySelector({json.dumps(selector)}); if (!n) return null;"
            " const r = n.getBoundingClientRect(); return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Browser]:
    """A browser whose profile is in this folder."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *flags,
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while (found := _STARTED.search(await process.stderr.readline())) is None:
                assert process.returncode is None
        draining = asyncio.create_task(process.stderr.read())
        async with websocket.connect(found[1].decode(), max_size=None) as socket:
            page = Browser(socket)
            listening = asyncio.create_task(page.listen())
            await page.open()
            yield page
            listening.cancel()
        draining.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await (
            process.communicate()
        )  # its helpers have the pipe a little longer, and a loop that ended would leave it open
