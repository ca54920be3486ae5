"""`idf.remote`: builds an ESP-IDF project on another host and brings what was built back, checked by hash.

The tree is synced to a folder beside the host's jobs first (the stage's `sync`); there the project has a build
directory and an sdkconfig of its own, so that neither side's configuration runs over the other's.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from mcp_server.engine.stages import ninja_times
from mcp_server.engine.stages.base import (
    LogDiagnosis,
    Observer,
    Prepared,
    StageContext,
    installation_here,
    project_path,
    result_of,
)
from mcp_server.engine.stages.command import own_tree
from mcp_server.errors import EnvironmentMissing
from mcp_server.hosts import files
from mcp_server.hosts.base import Exit, ExitReason
from mcp_server.idf.activation import run_tool
from mcp_server.idf.diagnostics import Diagnoser
from mcp_server.idf.products import collect
from mcp_server.idf.size import measure
from mcp_server.model import Verdict

GIT_S = 5

BUILD: Final = r"""
idf=$1 target=$2 clean=$3 version=$4
say() { echo "build-orchestrator: $*" >&2; }
if [ -z "$idf" ]; then
    for idf in "${IDF_PATH-}" ~/esp/esp-idf ~/esp-idf ~/.espressif/esp-idf /opt/esp/idf /opt/esp-idf; do
        [ ! -f "$idf/export.sh" ] || break
    done
fi
if [ -f "$idf" ]; then activate=$idf; else activate=$idf/export.sh; fi
if [ ! -f "$activate" ]; then
    say "no ESP-IDF here${1:+ at $1}: set idf_path of this host in config.yaml to its folder or activation script"
    exit 127
fi
[ ! -d "$idf" ] || export IDF_PATH="$idf"
mkdir -p build
said=build/.activation.log
. "$activate" >$said 2>&1 || { say "$activate ends with an error:"; cat $said; exit 127; }
command -v idf.py >/dev/null || { say "$activate brings no idf.py"; exit 127; }
idf.py --version
own=build/sdkconfig
if [ -f sdkconfig ] && ! cmp -s sdkconfig build/.sdkconfig.brought; then
    cp sdkconfig "$own" && cp sdkconfig build/.sdkconfig.brought || exit
fi
set -- -B build -D "SDKCONFIG=$PWD/$own"
[ -z "$version" ] || set -- "$@" -D "PROJECT_VER=$version"
[ "$clean" != yes ] || [ ! -f build/CMakeCache.txt ] || idf.py "$@" fullclean || exit
if [ -n "$target" ]; then
    now=$(sed -n 's/^CONFIG_IDF_TARGET="\(.*\)"$/\1/p' "$own" 2>/dev/null)
    if [ -n "$now" ] && [ "$now" != "$target" ]; then idf.py "$@" set-target "$target" || exit; fi
    set -- "$@" -D "IDF_TARGET=$target"
fi
exec idf.py "$@" build
"""
"""What bash runs there: activates ESP-IDF, gives the build an sdkconfig of its own, builds. `$1` the installation."""

PRODUCTS = (
    *("*.json", "*.bin", "*.elf", "*.map", "flash_args", "sdkconfig", "config/*", "*/*.bin", "*/*.elf"),
    *ninja_times.NAMES,
)
"""Below the build directory: all that flashing, sizes, a decoded backtrace and the times of files need."""


class RemoteLog(LogDiagnosis):
    """Keeps the diagnosis, as what was built may have to be asked for twice."""

    verdict: Verdict | None = None


class IdfRemote:
    """Params: `project`, `build_dir` (here, for what comes back), `target` (None: as it is), `clean`, `idf_path`."""

    live = False

    async def ready(self, context: StageContext) -> None:
        pass

    async def prepare(self, context: StageContext) -> Prepared:
        params, tree = context.params, await own_tree(context)
        clean = "yes" if params.get("clean") and not context.previous else "no"
        version = await _version(project_path(context))
        return Prepared(
            argv=[
                "bash",
                "-c",
                BUILD,
                "bash",
                params.get("idf_path") or "",
                params.get("target") or "",
                clean,
                version,
            ],
            cwd=tree,
            env=dict(context.server.env),
            lock=f"{tree}/build",
            login=True,
            resolved={"build_dir": params["build_dir"]},
        )

    def observe(self, context: StageContext) -> Observer:
        return RemoteLog(Diagnoser((context.stage.resolved or {})["cwd"]))

    async def finish(self, context: StageContext, end: Exit, observer: Observer) -> Verdict:
        assert isinstance(observer, RemoteLog)
        if observer.verdict is None:
            observer.verdict = await self._judge(end, observer)
        if observer.verdict.result != "pass":
            return observer.verdict
        build_dir = Path(context.params["build_dir"])
        await self._bring_back(context, build_dir)
        products = await collect(build_dir)
        named = {"target": products.target, "app_bin": products.app_bin, "app_elf": products.app_elf}
        details: dict[str, Any] = {name: value for name, value in named.items() if value}
        details |= {"why": f"built on {context.host.name}, brought to {build_dir}", "notes": list(products.notes)}
        details |= await ninja_times.in_directory(build_dir, end)
        return observer.verdict.model_copy(update={"artifacts": products.artifacts, "details": details})

    async def after(self, context: StageContext, verdict: Verdict) -> Mapping[str, Any] | None:
        """The sizes of what came back: by component where this machine has an ESP-IDF, else by section."""
        try:
            python = (await asyncio.to_thread(installation_here, context)).python
        except EnvironmentMissing:
            python = None
        build_dir, target = Path(context.params["build_dir"]), verdict.details.get("target")
        sizes = await measure(build_dir, verdict.artifacts, target=target, python=python)
        return None if sizes is None else {"sizes": sizes.model_dump(mode="json", exclude_defaults=True)}

    async def _judge(self, end: Exit, observer: RemoteLog) -> Verdict:
        verdict = result_of(end)
        if end.reason is not ExitReason.EXIT:
            return verdict
        diagnosis = await asyncio.to_thread(observer.diagnoser.finish, end.code)
        return verdict.model_copy(update={"diagnosis": diagnosis})

    async def _bring_back(self, context: StageContext, build_dir: Path) -> None:
        there = f"{(context.stage.resolved or {})['cwd']}/build"
        found = await files.list_files(context.host, there, PRODUCTS)
        await anyio.Path(build_dir).mkdir(parents=True, exist_ok=True)
        await files.fetch(context.host, there, found, build_dir)


async def _version(project: Path) -> str:
    """What ESP-IDF would take from Git as the app's version; the tree there has no `.git`. "" where it says nothing."""
    if await anyio.Path(project / "version.txt").exists():
        return ""
    safe = ["git", "-c", "core.fsmonitor=false", "-c", f"safe.directory={project}", "--no-optional-locks"]
    argv = [*safe, "-C", str(project), "describe", "--always", "--tags", "--dirty"]
    try:
        code, said, _ = await run_tool(argv, {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}, GIT_S)
    except (OSError, TimeoutError):
        return ""
    return said.strip()[:31] if code == 0 else ""  # the app's description has room for no more
