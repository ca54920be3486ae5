"""What is here, what is missing, and the command that mends it: checks as data, which the fronts render."""

import asyncio
import os
import platform
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mcp_server.config import Config
from mcp_server.errors import BadInput, OrchestratorError
from mcp_server.idf.activation import activate, missing_compiler, run_tool
from mcp_server.idf.environment import DEFAULT_PATH, Found, choose_installation, find_installations, job_environment
from mcp_server.idf.installation import Installation, read_text, version_numbers
from mcp_server.idf.project import DEFAULT_TARGET, IdfProject, inspect_project
from mcp_server.model import Model

CHECK_TIMEOUT_S = 15
TOOL_TIMEOUT_S = 5
LOW_BYTES = 1024**3  # a chip's build directory takes 50 to 200 MB, a log up to 256 MB
LEAST_PYTHON = (3, 11)

DEMO_MARKER = ".build-orchestrator-demo"  # in the demo's project, which brings a simulated ESP-IDF
# What the script that runs jobs calls, by the package that brings it.
JOB_TOOLS = {
    "dash": ("sh",),
    "gawk": ("awk",),
    "grep": ("grep",),
    "coreutils": ("cat", "date", "env", "head", "mkdir", "mkfifo", "mv", "rm", "sleep", "sort", "tail", "tr", "wc"),
}

Status = Literal["ok", "warn", "fail"]
SERIAL_PORTS = "serial ports"
"""The check that speaks of all ports of a host, or of none."""


class Check(Model):
    """One thing that was looked at. `mend` says how what is not ok becomes so.

    fail: a build could not start or, `about` a board, what was asked about is not there; warn: something else.
    """

    name: str
    status: Status
    found: str
    mend: str | None = None
    about: Literal["build", "board"] = "build"


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the checks share: the environment of a job, and the installation and project it would be for."""

    config: Config
    environment: Mapping[str, str]
    env: Mapping[str, str]
    found: Found = field(default_factory=Found)
    installation: Installation | None = None
    project: IdfProject | None = None

    def which(self, program: str) -> str | None:
        return shutil.which(program, path=self.env.get("PATH", DEFAULT_PATH))


async def examine(
    config: Config,
    environment: Mapping[str, str],
    project: Path | None = None,
    *,
    named: bool = True,
    installation: Installation | None = None,
) -> list[Check]:
    """Every check, side by side, each within 15 s; in the order in which a person would mend them.

    Not `named`: `project` is only the folder where somebody stands, and it is no fault of it to be none. With
    `installation` it is that one which is looked at: `environment` may be another process's than the one that chose it.
    """
    scene, first = await _scene(config, environment, project, named=named, given=installation)
    checks: list[tuple[str, Callable[[_Scene], Awaitable[Check]]]] = [
        ("data home", _data_home),
        ("job tools", _job_tools),
        ("git", _git),
        ("cmake", _cmake),
        ("ninja", _ninja),
        ("C compiler", _c_compiler),
    ]
    if scene.installation is not None and not _is_for_host(scene):
        checks.insert(4, ("compiler", _target_compiler))
    return [_python(), *first, *await asyncio.gather(*(_bounded(name, check, scene) for name, check in checks))]


async def _bounded(name: str, check: Callable[[_Scene], Awaitable[Check]], scene: _Scene) -> Check:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check(scene)
    except TimeoutError:
        return Check(name=name, status="warn", found=f"no answer within {CHECK_TIMEOUT_S} s")
    except OSError as error:
        return Check(name=name, status="warn", found=f"could not be looked at: {error.strerror or error}")


async def _scene(
    config: Config,
    environment: Mapping[str, str],
    project: Path | None,
    *,
    named: bool,
    given: Installation | None,
) -> tuple[_Scene, list[Check]]:
    """The installation, its activation and the project, which the other checks build upon."""
    checks: list[Check] = []
    extra = [Path(config.local.idf_path)] if config.local.idf_path else []
    found = await asyncio.to_thread(find_installations, environment, extra)
    env = job_environment({}, environment, config.env_pass)
    installation = None
    try:
        installation = given or choose_installation(found, environment.get("ESP_IDF_VERSION"))
        activated = await activate(installation, config.home / "cache", environment, timeout_s=CHECK_TIMEOUT_S)
        env = job_environment(activated, environment, config.env_pass)
        checks.append(_chosen(installation, found))
    except OrchestratorError as error:
        installation = None
        checks.append(_without_esp_idf(error, project, found))
    told: IdfProject | None = None
    if project is not None:
        try:
            told = await asyncio.to_thread(inspect_project, project)
            target = told.target or f"{DEFAULT_TARGET}, as none is set"
            checks.append(Check(name="project", status="ok", found=f"{told.name} in {told.path}, target {target}"))
        except BadInput as error:
            nobodys = Check(name="project", status="ok", found=f"none was named, and {project} is no ESP-IDF project")
            checks.append(_failed("project", error) if named else nobodys)
    scene = _Scene(config, environment, env, found, installation, told)
    return scene, checks


def _chosen(installation: Installation, found: Found) -> Check:
    others = [f"{one.version} in {one.path}" for one in found.installations if one.path != installation.path]
    said = f"{installation.version} in {installation.path}"
    said += f"; also {', '.join(others[:4])}" if others else ""
    if found.broken:
        bad = found.broken[0]
        return Check(name="ESP-IDF", status="warn", found=f"{said}; {bad.path} cannot be used", mend=bad.why)
    return Check(name="ESP-IDF", status="ok", found=said)


def _without_esp_idf(error: OrchestratorError, project: Path | None, found: Found) -> Check:
    check = _failed("ESP-IDF", error)
    if project is None or not found.may_be_simulated or not (project / DEMO_MARKER).is_file():
        return check
    return Check(name="ESP-IDF", status="warn", found=f"{check.found}: the demo's simulated one is used")


def _failed(name: str, error: OrchestratorError) -> Check:
    """An error's sentence as a check: what is wrong, then, behind the last colon or semicolon, what to do."""
    sentence = str(error)
    if isinstance(error, BadInput):
        sentence = sentence.removeprefix(f"{error.argument}: ")
    parts = re.fullmatch(r"(.*)(?:: |; )(.+)", sentence)
    return Check(name=name, status="fail", found=parts[1] if parts else sentence, mend=parts[2] if parts else None)


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < LEAST_PYTHON:
        return Check(name="Python", status="fail", found=found, mend="install Python 3.11 or newer")
    return Check(name="Python", status="ok", found=found)


async def _data_home(scene: _Scene) -> Check:
    home = scene.config.home
    try:
        await asyncio.to_thread(scene.config.make_home)
    except OrchestratorError as error:
        return _failed("data home", error)
    free = (await asyncio.to_thread(shutil.disk_usage, home)).free
    if free < LOW_BYTES:
        status: Status = "fail" if free < 1024**2 else "warn"
        return Check(
            name="data home", status=status, found=f"{home}, {free // 1024**2} MB free", mend=f"free space on {home}"
        )
    return Check(name="data home", status="ok", found=f"{home}, {free / 1024**3:.0f} GB free")


async def _job_tools(scene: _Scene) -> Check:
    return await asyncio.to_thread(_tools_of_jobs, scene.environment.get("PATH", DEFAULT_PATH))


def _tools_of_jobs(path: str) -> Check:
    """Without one of them no job starts, here as on a host behind SSH."""
    absent = {
        tool: package for package, tools in JOB_TOOLS.items() for tool in tools if not shutil.which(tool, path=path)
    }
    if not shutil.which("setsid", path=path) and not shutil.which("perl", path=path):
        absent["setsid"] = "util-linux"
    if not absent:
        return Check(name="job tools", status="ok", found="all on PATH")
    mend = f"sudo apt install {' '.join(dict.fromkeys(absent.values()))}"
    return Check(name="job tools", status="fail", found=f"not on PATH: {', '.join(absent)}", mend=mend)


async def _git(scene: _Scene) -> Check:
    return await _tool(scene, "git", "warn", "commits are not recorded without it: sudo apt install git")


async def _cmake(scene: _Scene) -> Check:
    install = "sudo apt install cmake, or pip install cmake"
    check = await _tool(scene, "cmake", "fail" if scene.installation else "warn", install)
    if scene.installation and check.status == "ok":
        file = scene.installation.path / "tools" / "cmake" / "project.cmake"
        text = await asyncio.to_thread(read_text, file)
        least = re.search(r"cmake_minimum_required\s*\(\s*VERSION\s+([\d.]+)", text or "", re.IGNORECASE)
        has = re.match(r"[\d.]+", check.found)
        if least and has and version_numbers(has[0]) < version_numbers(least[1]):
            found = f"{check.found}, but ESP-IDF {scene.installation.version} needs {least[1]}"
            return Check(name="cmake", status="fail", found=found, mend="pip install cmake, in front of PATH")
    return check


async def _ninja(scene: _Scene) -> Check:
    status: Status = "fail" if scene.installation else "warn"
    return await _tool(scene, "ninja", status, "sudo apt install ninja-build, or pip install ninja")


async def _c_compiler(scene: _Scene) -> Check:
    """The machine's own: for the linux target and for the demo."""
    for_host = scene.installation is not None and _is_for_host(scene)
    status: Status = "fail" if for_host else "warn"
    check = await _tool(scene, "cc", status, "sudo apt install build-essential libbsd-dev", name="C compiler")
    if not for_host or check.status != "ok" or sys.platform == "darwin":
        return check
    argv = [scene.which("cc") or "cc", "-E", "-x", "c", "-include", "bsd/sys/cdefs.h", "-o", os.devnull, os.devnull]
    code, _, _ = await run_tool(argv, scene.env, TOOL_TIMEOUT_S)
    if code:
        found = f"{check.found}, without libbsd, which ESP-IDF's linux target includes"
        return Check(name="C compiler", status="fail", found=found, mend="sudo apt install libbsd-dev")
    return check


def _is_for_host(scene: _Scene) -> bool:
    return scene.project is not None and scene.project.target == "linux"


async def _target_compiler(scene: _Scene) -> Check:
    assert scene.installation is not None
    target = (scene.project.target if scene.project else None) or DEFAULT_TARGET
    absent = await asyncio.to_thread(missing_compiler, scene.installation, scene.env, target)
    name = f"compiler for {target}"
    if absent is None:
        return Check(name=name, status="ok", found="on the PATH of a build")
    what, _, mend = absent.rpartition(": ")
    # Without a project nothing says that this chip is meant.
    return Check(name=name, status="fail" if scene.project else "warn", found=what, mend=mend)


async def _tool(scene: _Scene, program: str, absent: Status, mend: str, name: str | None = None) -> Check:
    path = await asyncio.to_thread(scene.which, program)
    if path is None:
        return Check(name=name or program, status=absent, found=f"{program} is not on the PATH of a build", mend=mend)
    code, out, err = await run_tool([path, "--version"], scene.env, TOOL_TIMEOUT_S)
    first = next((line.strip() for line in (out + err).splitlines() if line.strip()), "")
    version = re.search(r"\d+\.\d+[\w.]*", first)
    if code:
        return Check(name=name or program, status=absent, found=f"{path} does not run: {first[:160]}", mend=mend)
    return Check(name=name or program, status="ok", found=f"{version[0] if version else 'some version'} ({path})")
