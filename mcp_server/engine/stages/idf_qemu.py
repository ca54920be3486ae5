"""`idf.qemu`: runs a chip's firmware in Espressif's QEMU on this machine until what it prints decides.

With `gdb` the firmware waits for a debugger and nothing that it prints ends the run, so that nobody is cut off.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_server.engine.stages.base import (
    Observer,
    Prepared,
    StageContext,
    installation_here,
    older_firmware,
    recorded_images,
    result_of,
)
from mcp_server.engine.stages.panics import decoded_panic
from mcp_server.errors import Conflict, NotFound
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf import qemu, qemu_job
from mcp_server.idf.activation import activate
from mcp_server.idf.environment import job_environment
from mcp_server.idf.installation import Installation
from mcp_server.idf.panic import addr2line_for
from mcp_server.idf.products import BuildProducts, collect
from mcp_server.idf.qemu_log import EmulatorLog
from mcp_server.idf.verdict import FirmwareLog, judge
from mcp_server.model import Progress, Verdict

SIMULATED = "in QEMU, not on a board"
SIGNALLED = 128  # an exit code above tells the signal that ended the program


class QemuLog:
    """The firmware's part of the job's log goes to `firmware`. With `debugged` a debugger may stay: nothing decides."""

    def __init__(self, firmware: FirmwareLog, *, debugged: bool) -> None:
        self.firmware, self.debugged = firmware, debugged
        self.emulator = EmulatorLog()

    def feed(self, data: bytes) -> None:
        if said := self.emulator.feed(data):
            self.firmware.feed(said)

    def close(self) -> None:
        if said := self.emulator.close():
            self.firmware.feed(said)
        self.firmware.close()

    @property
    def progress(self) -> Progress | None:
        if self.emulator.spoke:
            return self.firmware.progress
        if self.emulator.gdb is not None:
            return Progress(message=f"waiting for gdb: target remote {self.emulator.gdb}")
        return Progress(message=self.emulator.told[-1]) if self.emulator.told else None

    @property
    def decided(self) -> bool:
        return self.firmware.decided and not self.debugged


class IdfQemu:
    """Params: `project`, `build_dir`, `installation`, `expect`, `fail_on`, `gdb`, `images`.

    `images` are the artifacts that build number `build` recorded: what lies there now must be these. None: what an
    earlier stage of the same build left there, else whatever is there.
    """

    live = True

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        build_dir = Path(context.params["build_dir"])
        self.observe(context)  # a bad pattern is told before anything runs
        installation = await asyncio.to_thread(installation_here, context)
        products = await collect(build_dir)
        way = await asyncio.to_thread(qemu.qemu_way, installation)
        emulator = way.emulator(_chip(build_dir, products))
        qemu.check_recorded(products.images, *await recorded_images(context))
        image = await asyncio.to_thread(qemu.flash_image, build_dir, products)
        environment = await _environment(context, installation)
        program = await asyncio.to_thread(qemu.locate, emulator, installation, environment["PATH"])
        work = _place(build_dir) / _run_name(context)
        flash, efuse = work / "flash.bin", work / "efuse.bin"
        octal_psram = image.octal_psram and way.octal
        job = {
            "work": str(work),
            "merge": qemu.merge_command(installation.python, way, image, flash),
            "size": image.size,
            "images": {file.path: file.sha256 for file in image.files},
            "efuse": emulator.efuse.hex(),
            "burnt": str(build_dir / "qemu_efuse.bin"),
            "command": qemu.command_line(program, emulator, flash=flash, efuse=efuse, octal_psram=octal_psram),
            "gdb": bool(context.params.get("gdb")),
        }
        return Prepared(
            argv=[sys.executable, "-I", qemu_job.__file__, json.dumps(job)],
            cwd=str(build_dir),
            env=environment,
            resolved={
                "work": str(work),
                "emulator": program,
                "installation": installation.model_dump(mode="json"),
                "target": emulator.target,
                "elf": str(build_dir / (products.app_elf or f"{products.project_name}.elf")),
                "addr2line": addr2line_for(emulator.target, environment),
                "notes": list(image.notes),
            },
        )

    def observe(self, context: StageContext) -> Observer:
        firmware = FirmwareLog(context.params.get("expect", ()), context.params.get("fail_on", ()))
        return QemuLog(firmware, debugged=bool(context.params.get("gdb")))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, QemuLog)
        observer.close()
        resolved, log = context.stage.resolved or {}, observer.emulator
        await asyncio.to_thread(_remove, Path(resolved["work"]))
        verdict = _judged(observer, end, context.spec.timeout_s) if log.started else _not_started(end, log)
        if "unsupported machine type" in log.complaint:
            installation = Installation.model_validate(resolved["installation"])
            summary = qemu.not_espressifs(resolved["target"], resolved["emulator"], installation)
            verdict = verdict.model_copy(update={"summary": summary})
        details = {**verdict.details, **_about(log, resolved)}
        if notes := [*verdict.details.get("notes", ()), *resolved["notes"]]:
            details["notes"] = notes
        if (panic := observer.firmware.panic) is not None:
            build_dir, elf = Path(context.params["build_dir"]), Path(resolved["elf"])
            project, program = Path(context.params["project"]), resolved["addr2line"]
            details |= await decoded_panic(panic, build_dir, elf, program, project, context.spec.name)
        return older_firmware(context, verdict.model_copy(update={"details": details}))


async def _environment(context: StageContext, installation: Installation) -> dict[str, str]:
    activated = await activate(installation, context.config.home / "cache", context.environment)
    return job_environment(activated, context.environment, context.config.env_pass)


def _chip(build_dir: Path, products: BuildProducts) -> str:
    if products.target is None:
        why = products.notes[0] if products.notes else "project_description.json names no target"
        raise NotFound(f"{build_dir} has nothing to emulate ({why}): build first")
    return products.target


def _place(build_dir: Path) -> Path:
    """Where runs have their folders, which are deleted later: nowhere that a link of the project's leads to."""
    place = build_dir / "qemu"
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise Conflict(f"{place} is no folder of its own, which emulations need for their flash images: remove it")
    return place


def _remove(work: Path) -> None:
    if not work.parent.is_symlink():
        shutil.rmtree(work, ignore_errors=True)


def _run_name(context: StageContext) -> str:
    stage = context.stage
    return f"{context.build.id}-{stage.stage}-{stage.round}-{stage.attempt}"


def _about(log: EmulatorLog, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What every verdict of an emulation says of it."""
    about: dict[str, Any] = {
        "simulated": SIMULATED,
        "emulator": log.version or Path(resolved["emulator"]).name,
        "target": resolved["target"],
    }
    about |= {"emulator_said": log.said} if log.said else {}
    about |= {"gdb": f"target remote {log.gdb}"} if log.gdb else {}
    return about


def _not_started(end: Exit, log: EmulatorLog) -> Verdict:
    """The preparation did not get as far as the emulator."""
    verdict = result_of(end)
    if end.reason is not ExitReason.EXIT:
        doing = f" while {log.told[-1]}" if log.told and end.reason is ExitReason.TIMEOUT else ""
        return verdict.model_copy(update={"summary": verdict.summary + doing})
    words = [*log.told[-1:], *log.printed[-1:]]
    summary = ": ".join(words) or f"the emulation ended with exit code {end.code} before the emulator started"
    if "error while loading shared libraries" in summary:
        summary += f"; on Debian and Ubuntu run {qemu.LIBRARIES}"
    return verdict.model_copy(update={"result": "fail", "summary": summary, "details": {"printed": log.printed[-5:]}})


def _own_end(end: Exit, log: EmulatorLog) -> str:
    """QEMU ended by itself: firmware never does that, whatever it prints."""
    code = end.code or 0
    how = f"was ended by signal {code - SIGNALLED}" if code > SIGNALLED else f"ended by itself (exit code {code})"
    return f"QEMU {how}: {log.complaint}" if log.complaint else f"QEMU {how} and did not say why"


def _judged(observer: QemuLog, end: Exit, watched_s: float) -> Verdict:
    """What the firmware came to; where QEMU ended before that was known, why it did."""
    log, firmware = observer.emulator, observer.firmware
    verdict = judge(firmware, end, ran="emulator", watched_s=watched_s)
    if firmware.decided:
        return verdict
    if end.reason is ExitReason.EXIT and (log.complaint or end.code):
        return verdict.model_copy(update={"result": "fail", "summary": _own_end(end, log)})
    if end.reason is ExitReason.TIMEOUT and log.gdb is not None and not log.spoke:
        waited = f"nothing was printed in {watched_s:g} s: QEMU waited for gdb (target remote {log.gdb})"
        return verdict.model_copy(update={"result": "timeout", "summary": waited})
    return verdict
