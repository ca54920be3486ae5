"""`idf.build`: builds an ESP-IDF project by idf.py or, where nothing else could matter, by ninja."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_server.demo.place import is_simulated
from mcp_server.engine.stages import ninja_times
from mcp_server.engine.stages.base import LogDiagnosis, Observer, Prepared, StageContext, project_path, result_of
from mcp_server.engine.stages.strangers import until_alone
from mcp_server.errors import EnvironmentMissing
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf import ccache, dependencies
from mcp_server.idf.activation import activate, missing_compiler
from mcp_server.idf.build import BuildCommand, after_build, disk_is_full, plan_build
from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.idf.environment import job_environment
from mcp_server.idf.installation import Installation, read_text
from mcp_server.idf.products import BuildProducts, collect
from mcp_server.idf.project import DEFAULT_TARGET, inspect_project
from mcp_server.idf.size import measure
from mcp_server.model import Verdict

WAITED = "build-orchestrator: waiting for "
"""What a job's log says first where another program holds the build directory."""

RECORD_S = 0.01
"""An exit record's times are cut to 1/100 s: a file that was saved just before the start must not look newer."""

SIMULATED = "by the simulated ESP-IDF of the demo, not by a real one"


class BuildLog(LogDiagnosis):
    """Also sees whether the job had to wait for the build directory: what was decided before may be stale then."""

    def __init__(self, diagnoser: Diagnoser) -> None:
        super().__init__(diagnoser)
        self._start = b""

    @property
    def waited(self) -> bool:
        return self._start.startswith(WAITED.encode())

    def feed(self, data: bytes) -> None:
        if len(self._start) < len(WAITED):
            self._start += data[: len(WAITED)]
        super().feed(data)


class IdfBuild:
    """Params: `project`, `build_dir`, `target` (None: as it is), `clean`, `installation`."""

    live = False

    async def ready(self, context: StageContext) -> None:
        await until_alone(Path(context.params["build_dir"]), context.tell)

    async def prepare(self, context: StageContext) -> Prepared:
        folder, installation = project_path(context), _installation(context)
        project = await asyncio.to_thread(inspect_project, folder)  # it may have changed while the build was pending
        activated = await activate(installation, context.config.home / "cache", context.environment)
        environment = job_environment(activated, context.environment, context.config.env_pass)
        target = context.params.get("target") or project.target or DEFAULT_TARGET
        if absent := await asyncio.to_thread(missing_compiler, installation, environment, target):
            raise EnvironmentMissing(absent)
        build_dir, clean = Path(context.params["build_dir"]), bool(context.params.get("clean")) and not context.previous
        environment |= await asyncio.to_thread(ccache.switch_on, environment, build_dir, clean=clean)
        command = await asyncio.to_thread(
            plan_build,
            folder,
            installation,
            environment,
            target=context.params.get("target"),
            clean=clean,
            build_dir=build_dir,
        )
        counting = await asyncio.to_thread(ccache.count_in, environment, command.build_dir)
        locked = await asyncio.to_thread(dependencies.read_lock, folder)
        return Prepared(
            argv=command.argv,
            cwd=command.cwd,
            env={**command.env, **counting},
            lock=str(command.build_dir),
            resolved=_resolved(command) | {"locked": dict(locked)},
            note=command.why,
        )

    def observe(self, context: StageContext) -> Observer:
        return BuildLog(Diagnoser(project_path(context), idf_path=str(_installation(context).path)))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, BuildLog)
        resolved = context.stage.resolved or {}
        passed = end.reason is ExitReason.EXIT and end.code == 0
        if "memo" in resolved and end.started_at is not None:
            started_at = end.started_at + RECORD_S
            await asyncio.to_thread(after_build, resolved["memo"], started_at=started_at, succeeded=passed)
        verdict = result_of(end)
        if end.reason is not ExitReason.EXIT:
            return verdict
        diagnosis = await asyncio.to_thread(observer.diagnoser.finish, end.code)
        details = await asyncio.to_thread(_details, resolved, _installation(context), project_path(context))
        if observer.waited and not context.previous:
            # Another program had the directory in the meantime: target and configuration may be others now.
            return Verdict(result="fail", summary="waited for the directory: decided anew", details={"again": True})
        if not passed:
            full = await asyncio.to_thread(disk_is_full, Path(resolved["build_dir"]))
            summary = f"no space left on the disk of {resolved['build_dir']}: free some, then retry" if full else ""
            return verdict.model_copy(update={"summary": summary, "diagnosis": diagnosis, "details": details})
        build_dir = Path(resolved["build_dir"])
        products = await collect(build_dir)
        return Verdict(
            result="pass",
            diagnosis=diagnosis,
            artifacts=products.artifacts,
            details={**details, **_products(products), **await ninja_times.in_directory(build_dir, end)},
        )

    async def after(self, context: StageContext, verdict: Verdict) -> Mapping[str, Any] | None:
        sizes = await measure(
            Path((context.stage.resolved or {})["build_dir"]),
            verdict.artifacts,
            target=verdict.details.get("target"),
            python=None if verdict.details.get("simulated") else _installation(context).python,
        )
        return None if sizes is None else {"sizes": sizes.model_dump(mode="json", exclude_defaults=True)}


def _installation(context: StageContext) -> Installation:
    return Installation.model_validate(context.params["installation"])


def _resolved(command: BuildCommand) -> dict[str, Any]:
    return {
        "build_dir": str(command.build_dir),
        "uses_ninja": command.uses_ninja,
        "why": command.why,
        "memo": dict(command.memo),
    }


def _details(resolved: Any, installation: Installation, project: Path) -> dict[str, Any]:
    details: dict[str, Any] = {"why": resolved.get("why", ""), "idf_version": installation.version}
    if found := ccache.counted(Path(resolved["build_dir"])):
        details["ccache"] = found
    if "locked" in resolved and (found := dependencies.changes(resolved["locked"], dependencies.read_lock(project))):
        details["dependencies"] = found
    if (sdkconfig := read_text(Path(str(resolved.get("memo", {}).get("sdkconfig") or "/")))) is not None:
        details["sdkconfig_sha256"] = hashlib.sha256(sdkconfig.encode("utf-8", "surrogateescape")).hexdigest()
    if is_simulated(installation.path):
        details["simulated"] = SIMULATED
    return details


def _products(products: BuildProducts) -> dict[str, Any]:
    found = {
        "target": products.target,
        "project_name": products.project_name,
        "project_version": products.project_version,
        "app_bin": products.app_bin,
        "app_elf": products.app_elf,
        "notes": list(products.notes),
    }
    return {name: value for name, value in found.items() if value}
