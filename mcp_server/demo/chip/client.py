"""A virtual chip as a process of its own, for tests and for the demo."""

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.errors import BadInput

KEPT_EVENTS = 1000
_END_S = 5.0  # a chip that was told to end and does not is killed
_LAST_WORDS = 4096  # bytes
Event = Mapping[str, object]


@dataclass(frozen=True)
class VirtualChip:
    """A chip and what is wrong with it; `running()` switches it on. `way`: pty, rfc2217 or socket."""

    flash: Path
    chip: str = "esp32c3"
    way: str = "pty"
    tcp_port: int = 0
    link: Path | None = None
    flash_size: str = "4MB"
    mac: str | None = None
    revision: str | None = None
    baud: int | None = None
    faults: Sequence[str] = field(default=())
    play: Path | None = None
    pace: float = 1.0

    def argv(self) -> list[str]:
        """The command line of its process, without what this module adds for itself."""
        argv = [sys.executable, "-m", "mcp_server.demo.chip"]
        argv += ["--pty"] if self.way == "pty" else [f"--{self.way}", str(self.tcp_port)]
        argv += ["--flash", str(self.flash), "--chip", self.chip, "--flash-size", self.flash_size]
        argv += ["--pace", str(self.pace)]
        options = {"link": self.link, "mac": self.mac, "revision": self.revision, "baud": self.baud, "play": self.play}
        argv += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
        return argv + [word for fault in self.faults for word in ("--fault", fault)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["RunningChip"]:
        """On while the block lasts. BadInput with its own words where it cannot start."""
        process = await asyncio.create_subprocess_exec(
            *self.argv(),
            "--json",
            "--orders",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        chip = RunningChip(self, process)
        try:
            await chip.start()
            yield chip
        finally:
            await chip.stop()


class RunningChip:
    """A chip that is on. It ends with its block, or with this process, however that ends."""

    def __init__(self, settings: VirtualChip, process: asyncio.subprocess.Process) -> None:
        self._settings, self._process = settings, process
        self.port = ""
        """The pty's path, or an URL. After the port was away the path may be another; a link stays."""
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._errors: asyncio.Task[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def flash(self) -> bytes:
        """The flash as it is now."""
        return self._settings.flash.read_bytes()

    @property
    def log(self) -> str:
        """What happened to the chip so far, one line an event; the last thousand."""
        return "\n".join(" ".join(str(value) for value in event.values()) for event in self.events)

    async def start(self) -> None:
        """Until it has a port."""
        self._reader = asyncio.create_task(self._follow())
        self._errors = asyncio.create_task(self._last_words())
        ready = asyncio.create_task(self.wait_for("port"))
        await asyncio.wait({ready, self._reader}, return_when=asyncio.FIRST_COMPLETED)
        if not self.port:
            ready.cancel()
            words = (await self._errors).decode("utf-8", "replace").strip()
            raise BadInput("virtual chip", words or "it ended without a word")

    async def wait_for(self, name: str, count: int = 1, matches: Callable[[Event], bool] = lambda _: True) -> Event:
        """The `count`-th event of that name since the chip was switched on, also one that was before."""

        def found() -> list[Event]:
            return [event for event in self.events if event["event"] == name and matches(event)]

        async with self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
            return found()[count - 1]

    async def reset(self) -> None:
        """Press its button. On a pty that nobody has open, it boots when somebody opens it."""
        await self._order({"op": "reset"})

    async def vanish(self, back_after_s: float | None = None) -> None:
        """Pull its cable; plug it in again after that time, or never."""
        await self._order({"op": "vanish", "back_after_s": back_after_s})

    async def stop(self) -> None:
        """End it; returns when it has ended."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        for task in (self._reader, self._errors):
            if task:
                await task

    def kill(self) -> None:
        """As a power cut: SIGKILL, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _order(self, order: Event) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()

    async def _follow(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            event: Event = json.loads(line)
            async with self._changed:
                if event["event"] == "port":
                    self.port = str(event["port"])
                self.events.append(event)
                self._changed.notify_all()

    async def _last_words(self) -> bytes:
        """The end of what it says on stderr, which is read so that it never has to wait."""
        assert self._process.stderr is not None
        words = b""
        while piece := await self._process.stderr.read(_LAST_WORDS):
            words = (words + piece)[-_LAST_WORDS:]
        return words
