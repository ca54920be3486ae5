"""`idf.flash`: writes what a build left to a board, by esptool, each image verified; never anything else than that."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_server.clock import SystemClock
from mcp_server.config_rules import LOCAL
from mcp_server.engine.stages.base import Observer, Prepared, StageContext, older_firmware, recorded_images, result_of
from mcp_server.engine.stages.command import own_tree
from mcp_server.errors import BadInput, Conflict, HostUnreachable, NotFound, OrchestratorError
from mcp_server.hosts import files
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.hosts.ports import SerialPort, find_port, lock_folder, refuse_stranger, stranger
from mcp_server.idf import flash_tool
from mcp_server.idf.environment import job_environment
from mcp_server.idf.esptool_failures import PORT_BUSY
from mcp_server.idf.flash import BAUD, FlashPlan, Image, check_sizes, plan_flash
from mcp_server.idf.flash_log import SAID, Board, Cause, FlashLog, cause_of
from mcp_server.idf.installation import Installation
from mcp_server.idf.monitor import yield_port
from mcp_server.idf.products import collect
from mcp_server.model import Stage, Verdict

WATCH_COMES_S = 15  # after a flash; a session has the port back so late where there is nothing to watch after all
LONG_S = 1  # of waiting for a port's lease: who else has it open may have changed by then


class IdfFlash:
    """Params: `project`, `build_dir`, `target`, `images` (artifacts of build number `build`), `port`, `erase`.

    Also `installation`, `encrypt`, `baud`. No `images`: what an earlier stage of the same build left in `build_dir`,
    else whatever lies there when the stage begins. No `port`: the only one there is.
    """

    live = True

    async def ready(self, context: StageContext) -> None:
        if context.config.security.allow_flash == "never":  # it may have been forbidden since the build was started
            raise Conflict("security.allow_flash of config.yaml is `never`: no board is flashed from here")

    async def prepare(self, context: StageContext) -> Prepared:
        last = _last(context.previous)
        try:
            return await self._prepare(context, last)
        except HostUnreachable:
            raise
        except OrchestratorError as error:
            board = Board(last.details["board"]) if last else Board.UNTOUCHED
            if board is Board.UNTOUCHED:
                raise
            refused = Conflict(f"{error}; from the attempt before, {SAID[board]}")
            refused.details = {"board": str(board)}
            raise refused from error

    async def _prepare(self, context: StageContext, last: Verdict | None) -> Prepared:
        plan = await self._plan(context)
        careful = bool(last and last.details.get("again"))
        erase = bool(context.params.get("erase")) and not (careful and last and last.details.get("erased"))
        port = await self._port(context)
        folder = str(context.params["build_dir"])
        if context.host.name != LOCAL:
            folder = await self._bring(context, plan, port)
        words = plan.command(port.path, baud=_baud(context), erase=erase, careful=careful)
        lock = lock_folder(await context.host.directory(), port.key)
        copied = [flash_tool.checked(plan.images), flash_tool.copies(lock)]
        argv, environment = await self._command(context, copied, words)
        return Prepared(
            argv=argv,
            cwd=folder,
            env=environment | flash_tool.ENVIRONMENT,
            lock=lock,
            login=context.host.name != LOCAL,
            resolved={
                "port": port.path,
                "described": port.described,
                "key": port.key,
                "target": plan.target,
                "build": plan.build,
                "careful": careful,
                "encrypted": plan.encrypted,
                "images": [[image.path, image.offset, image.size] for image in plan.images],
            },
            note=f"{_what(len(plan.images), plan.size, plan.build)}, to {port.described}",
        )

    async def begun(self, context: StageContext) -> None:
        key, job = str((context.stage.resolved or {})["key"]), context.stage.job_id or ""
        # A port without reset lines boots as soon as it is written: what it says then is for the watch, not a session.
        watched = any(
            one.kind == "idf.boot" and context.spec.name in one.depends_on for one in context.build.plan.stages
        )
        then_s = WATCH_COMES_S if watched else 0
        await yield_port(context.host, key, f"flash of build {context.build.id}", job=job, then_s=then_s)

    async def _plan(self, context: StageContext) -> FlashPlan:
        params, build_dir = context.params, Path(context.params["build_dir"])
        recorded, number = await recorded_images(context)
        if recorded is None:
            if not context.spec.depends_on:
                mend = "build it first, in this pipeline or by idf_build"
                raise NotFound(f"no build in {build_dir} is recorded: {mend}")
            await asyncio.to_thread(check_sizes, build_dir)  # of files that nobody looked at yet: hashing takes long
            recorded = (await collect(build_dir)).images
        return await asyncio.to_thread(
            plan_flash,
            build_dir,
            recorded,
            target=params.get("target"),
            build=number,
            encrypt=bool(params.get("encrypt")),
        )

    async def _port(self, context: StageContext) -> SerialPort:
        """The port, this build's from now on."""
        clock = SystemClock()
        port = await find_port(context.host, context.params.get("port"))
        refuse_stranger(port, await context.host.directory())
        began = clock.monotonic()
        await context.hold(f"port:{context.host.name}:{port.key}", f"the port {port.path}")
        if clock.monotonic() - began > LONG_S:
            port = await find_port(context.host, port.path)
            refuse_stranger(port, await context.host.directory())
        return port

    async def _bring(self, context: StageContext, plan: FlashPlan, port: SerialPort) -> str:
        """The images in a folder of the host that only a flash of this port uses."""
        folder = f"{await own_tree(context)}/flash/{port.key}"
        build_dir = Path(context.params["build_dir"])
        await context.tell(f"bringing {plan.size + 1023 >> 10} kB to {context.host.name}")
        await files.put(context.host, folder, build_dir, await files.describe(build_dir, plan.images))
        return folder

    async def _command(
        self, context: StageContext, copied: Sequence[str], words: Sequence[str]
    ) -> tuple[list[str], dict[str, str]]:
        if context.host.name != LOCAL:
            idf = context.params.get("idf_path") or context.server.idf_path or ""
            return ["sh", "-c", flash_tool.FAR, "sh", *copied, str(idf), *words], dict(context.server.env)
        environment = job_environment({}, context.environment, context.config.env_pass)
        given = context.params.get("installation")
        installation = Installation.model_validate(given) if given else None
        tool = await asyncio.to_thread(flash_tool.find_esptool, installation, environment)
        return ["sh", "-c", flash_tool.HERE, "sh", *copied, *tool, *words], environment

    def observe(self, context: StageContext) -> Observer:
        resolved = context.stage.resolved or {}
        images = [Image(path, offset, size) for path, offset, size in resolved["images"]]
        return FlashLog(images, careful=bool(resolved.get("careful")))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, FlashLog)
        observer.close()
        resolved = context.stage.resolved or {}
        details = {**observer.details(), "port": resolved["described"], "target": resolved["target"]}
        if resolved.get("careful"):
            details["without_loader"] = True
        tried = bool(_last(context.previous))
        verdict = older_firmware(context, _judge(observer, end, resolved, details, tried=tried))
        if verdict.details.get("cause") != PORT_BUSY or not (holder := await _holder(context, resolved["port"])):
            return verdict
        summary = f"{holder}; {SAID[observer.board]}"
        return verdict.model_copy(update={"summary": summary, "details": {**verdict.details, "says_all": True}})


def _judge(log: FlashLog, end: Exit, resolved: Any, details: dict[str, Any], *, tried: bool) -> Verdict:
    """The verdict; `tried`: an attempt before this one was made another way already."""
    state = SAID[log.board]
    size = sum(image["size"] for image in details["images"])
    what = _what(len(details["images"]), size, resolved.get("build"))
    if log.secured:
        details["notes"] = ["the board has secure boot or restricted download: it only runs images signed for it"]
    if end.reason is not ExitReason.EXIT and not log.gave_up:
        verdict = result_of(end)
        if end.reason is ExitReason.TIMEOUT and log.loading and not tried:  # a loader that does not start never says so
            details |= {"again": True, "erased": False}
        during = f" while {log.doing}" if end.reason in (ExitReason.CANCELLED, ExitReason.TIMEOUT) else ""
        return verdict.model_copy(update={"summary": f"{verdict.summary}{during}: {state}", "details": details})
    closed = bool(resolved.get("encrypted"))
    cause = (
        _not_good_enough(log, encrypted=closed)
        if end.code == 0 and not log.gave_up
        else cause_of(log, resolved["port"])
    )
    if cause is None and log.verified:
        return Verdict(result="pass", summary=f"{what} written to {resolved['port']} and verified", details=details)
    if cause is None:
        unseen = "encrypted images cannot be read back: they are written, and nobody can verify them"
        details["notes"] = [*details.get("notes", ()), unseen]
        return Verdict(result="pass", summary=f"{what} written to {resolved['port']}, encrypted", details=details)
    details |= {"cause": cause.name}
    if cause.known:
        details["last_lines"] = []  # the sentence has all that they would tell
    if cause.again and not tried and not closed:
        details |= {"again": True, "erased": log.erased}
    return Verdict(result="fail", summary=f"{cause.sentence}; {state}", details=details)


def _what(images: int, size: int, build: int | None) -> str:
    return f"{images} images{f' of build {build}' if build is not None else ''}, {size + 1023 >> 10} kB"


async def _holder(context: StageContext, path: str) -> str:
    """Who has the port that esptool could not lock, having come first by a moment; "" where nobody can be seen."""
    try:
        return stranger(await find_port(context.host, path), await context.host.directory())
    except BadInput:  # it is gone by now
        return ""


def _not_good_enough(log: FlashLog, *, encrypted: bool) -> Cause | None:
    """Why an attempt that esptool ended without an error is a failure all the same; None: it is none."""
    if log.smaller is not None:
        wanted, there = log.smaller
        mend = f"set CONFIG_ESPTOOLPY_FLASHSIZE_{there} and build again"
        return Cause("flash_size", f"the board has {there} of flash, the build is for {wanted}: {mend}")
    if log.verified or (log.unverifiable and encrypted):
        return None
    if log.unverifiable:
        return Cause("unverified", "the chip is in secure download mode and lets nobody read back what was written")
    return Cause("unverified", "esptool ended well without having verified every image", again=True, known=False)


def _last(previous: Sequence[Stage]) -> Verdict | None:
    """What the attempt before came to, where a board was concerned."""
    verdict = previous[-1].verdict if previous else None
    return verdict if verdict is not None and "board" in verdict.details else None


def _baud(context: StageContext) -> int:
    baud = context.params.get("baud") or BAUD
    if isinstance(baud, bool) or not isinstance(baud, int) or not 1200 <= baud <= 12_000_000:
        raise BadInput("baud", f"{str(baud)[:40]!r} is no rate such as {BAUD}")
    return baud
