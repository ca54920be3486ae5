"""`idf.boot`: resets a board and watches what it prints, until that decides or the time is over."""

import asyncio
import json
from pathlib import Path
from typing import Any

from mcp_server.engine.stages.base import Observer, Prepared, StageContext
from mcp_server.engine.stages.idf_monitor import job_of, port_of, why_ended
from mcp_server.engine.stages.panics import decoded_panic
from mcp_server.errors import OrchestratorError
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.hosts.ports import lock_folder, refuse_stranger
from mcp_server.idf import monitor
from mcp_server.idf.activation import activate
from mcp_server.idf.environment import job_environment
from mcp_server.idf.installation import Installation, read_text
from mcp_server.idf.panic import Panic, addr2line_for
from mcp_server.idf.products import MAX_JSON_BYTES
from mcp_server.idf.verdict import FirmwareLog, judge
from mcp_server.model import Progress, Verdict

OPENING_S = 1  # of the time limit: the watch ends by itself before its job would be ended
MOST_BYTES = 256 << 20  # of a board: 46 minutes without a pause at 921,600 baud
WAIT_S = 20  # for a job that is just letting the port go
VIRTUAL = b"virtual chip: a simulated "
"""How the virtual chip begins whatever it prints."""
START_BYTES = 4096  # in which that is looked for: a chip may have said something before its reset
NO_LINES = "this port has no lines"


class BootLog:
    """The board's part of the job's log goes to `firmware`."""

    def __init__(self, firmware: FirmwareLog) -> None:
        self.firmware, self.board = firmware, monitor.BoardBytes()
        self._start = b""

    def feed(self, data: bytes) -> None:
        if said := self.board.feed(data):
            self._start += said[: START_BYTES - len(self._start)]
            self.firmware.feed(said)

    @property
    def is_virtual(self) -> bool:
        """Whether the board is the virtual chip, which says so."""
        return VIRTUAL in self._start

    def close(self) -> None:
        if said := self.board.close():
            self.firmware.feed(said)

    @property
    def progress(self) -> Progress | None:
        if self.firmware.progress is not None:
            return self.firmware.progress
        return Progress(message=self.board.remarks[-1]) if self.board.remarks else None

    @property
    def decided(self) -> bool:
        return self.firmware.decided


class IdfBoot:
    """Params: `project`, `build_dir`, `port` (None: the only one), `baud` (None: the project's), `expect`, `fail_on`,
    `reset` (True), `seconds` (None: as long as the stage may take), `target`, `installation`.
    """

    live = True

    async def ready(self, context: StageContext) -> None:
        FirmwareLog(context.params.get("expect", ()), context.params.get("fail_on", ()))  # BadInput before anything

    async def prepare(self, context: StageContext) -> Prepared:
        params, host = context.params, context.host
        port = await port_of(context)
        refuse_stranger(port, await context.host.directory())
        await context.hold(f"port:{host.name}:{port.key}", f"the port {port.path}")
        baud = params.get("baud") or await asyncio.to_thread(_console_baud, _build_dir(context))
        session = monitor.Session(
            port=port.stable or port.path,
            folder=lock_folder(await host.directory(), port.key),
            baud=monitor.checked_baud(baud or monitor.BAUD),
            reset=bool(params.get("reset", True)),
            idle_s=0,
            seconds=_watched_s(context),
            purpose="boot",
            commands=False,
            wait_s=WAIT_S,
        )
        return job_of(context, port, session, baud_said=bool(baud))

    async def begun(self, context: StageContext) -> None:
        key, job = str((context.stage.resolved or {})["key"]), context.stage.job_id or ""
        await monitor.yield_port(context.host, key, f"build {context.build.id}, which watches the boot", job=job)

    def observe(self, context: StageContext) -> Observer:
        expect, fail_on = context.params.get("expect", ()), context.params.get("fail_on", ())
        return BootLog(FirmwareLog(expect, fail_on, most_bytes=MOST_BYTES))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, BootLog)
        observer.close()
        resolved, firmware, board = context.stage.resolved or {}, observer.firmware, observer.board
        verdict = judge(firmware, end, ran="board", watched_s=_watched_s(context), baud=resolved.get("baud"))
        if end.reason is ExitReason.EXIT and end.code != 0 and not firmware.decided:
            verdict = verdict.model_copy(update={"result": "fail", "summary": why_ended(end, board)})
        about: dict[str, Any] = {"port": resolved.get("port"), "baud": resolved.get("baud")}
        if observer.is_virtual:
            about["virtual_board"] = True
        wanted = ("port gone",) if verdict.result == "pass" else ("port gone", NO_LINES)  # it booted: no button needed
        notes = [remark for remark in board.remarks if remark.startswith(wanted)]
        if notes:
            about["notes"] = [*verdict.details.get("notes", ()), *notes]
        if firmware.panic is not None:
            about |= await _decoded(context, firmware.panic)
        return verdict.model_copy(update={"details": {**verdict.details, **about}})


def _build_dir(context: StageContext) -> Path | None:
    given = context.params.get("build_dir")
    return Path(given) if given else None


def _watched_s(context: StageContext) -> float:
    """Seconds of watching, less than the stage's limit, which would end the job from outside."""
    seconds = float(context.params.get("seconds") or 0)
    limit = context.spec.timeout_s
    longest = max(limit - OPENING_S, limit * 0.8)
    return min(seconds, longest) if seconds and limit else seconds or longest


def _console_baud(build_dir: Path | None) -> int | None:
    """CONFIG_ESP_CONSOLE_UART_BAUDRATE of the build."""
    baud = _json(build_dir and build_dir / "config" / "sdkconfig.json").get("ESP_CONSOLE_UART_BAUDRATE")
    return baud if isinstance(baud, int) and 50 <= baud <= monitor.MOST_BAUD else None


def _json(path: Path | None) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        found: Any = json.loads((read_text(path, MAX_JSON_BYTES) if path else None) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


async def _decoded(context: StageContext, panic: Panic) -> dict[str, Any]:
    """`panic` with its frames, and a report of a few lines, as far as ELF and tools of this machine allow."""
    build_dir = _build_dir(context)
    if build_dir is None:
        return {}
    description = await asyncio.to_thread(_json, build_dir / "project_description.json")
    target = str(context.params.get("target") or description.get("target") or "esp32")
    elf = build_dir / str(description.get("app_elf") or "no project_description.json")
    if description.get("simulated"):
        target = "linux"  # what the virtual chip runs is a program of this machine
    program = await asyncio.to_thread(addr2line_for, target, await _environment(context))
    return await decoded_panic(panic, build_dir, elf, program, Path(context.params["project"]), context.spec.name)


async def _environment(context: StageContext) -> dict[str, str]:
    """Where the toolchain's programs are found."""
    activated: dict[str, str] = {}
    if given := context.params.get("installation"):
        try:
            cache = context.config.home / "cache"
            activated = await activate(Installation.model_validate(given), cache, context.environment)
        except OrchestratorError:
            activated = {}  # what is on PATH may do
    return job_environment(activated, context.environment, context.config.env_pass)
