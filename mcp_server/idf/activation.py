"""Activates an installation: the variables that its own `idf_tools.py export` prints, remembered on disk."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mcp_server.errors import EnvironmentMissing
from mcp_server.idf.environment import DEFAULT_PATH, job_environment, joined_path
from mcp_server.idf.installation import Installation, read_text, stamp

EXPORT_TIMEOUT_S = 60  # 0.2 s on a warm disk; a cold one over a network takes tens of seconds

Runner = Callable[[Sequence[str], Mapping[str, str], float], Awaitable[tuple[int, str, str]]]
"""Runs argv with an environment for at most so many seconds: exit code, stdout, stderr. TimeoutError, OSError."""

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_NOT_KEPT = {"IDF_DEACTIVATE_FILE_PATH", "PATH"}


async def run_tool(argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
    """Run a short command to its end; on a timeout or a cancel its whole process group is killed."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


async def activate(
    installation: Installation,
    cache_dir: Path,
    environment: Mapping[str, str],
    *,
    runner: Runner = run_tool,
    timeout_s: float = EXPORT_TIMEOUT_S,
) -> dict[str, str]:
    """What activating adds to an environment; PATH holds only the folders that go in front of the client's.

    Remembered in `cache_dir` until the installation, its Python or its tools change. EnvironmentMissing: one sentence
    on what is absent. Chip compilers may be absent without error, as the linux target needs none: `missing_compiler`.
    """
    base = job_environment({}, environment)
    key = await asyncio.to_thread(_key, installation, base.get("PATH", ""))
    file = cache_dir / f"{key[:32]}.json"
    if remembered := await asyncio.to_thread(_remembered, file, key):
        return remembered
    printed = await _export(installation, base, runner, timeout_s)
    activated = _activated(installation, printed)
    await asyncio.to_thread(_remember, file, key, activated)
    return activated


def missing_compiler(installation: Installation, environment: Mapping[str, str], target: str) -> str | None:
    """A sentence where the compiler of `target` is not on the job's PATH; None where it is, or nobody can tell."""
    if environment.get("IDF_TOOLCHAIN", "gcc") != "gcc":
        return None
    toolchain = read_text(installation.path / "tools" / "cmake" / f"toolchain-{target}.cmake") or ""
    prefix = re.search(r"^\s*set\(\s*_CMAKE_TOOLCHAIN_PREFIX\s+([\w-]+)", toolchain, re.MULTILINE)
    named = re.search(r"^\s*set\(\s*CMAKE_C_COMPILER\s+\"?([\w.+-]+)\"?", toolchain, re.MULTILINE)
    compiler = f"{prefix[1]}gcc" if prefix else named[1] if named else "cc" if target == "linux" else None
    if compiler is None or shutil.which(compiler, path=environment.get("PATH", DEFAULT_PATH)):
        return None
    if target == "linux":
        return f"the compiler {compiler} is not installed: sudo apt install build-essential libbsd-dev"
    install = installation.path / "install.sh"
    return f"ESP-IDF {installation.version} has no compiler for {target} ({compiler}): run {install} {target}"


async def _export(
    installation: Installation, base: Mapping[str, str], runner: Runner, timeout_s: float
) -> dict[str, str]:
    python, tool = str(installation.python), str(installation.path / "tools" / "idf_tools.py")
    # Older versions print only what differs from the caller's shell, so it is told of no other installation.
    env = {name: value for name, value in base.items() if not name.startswith("IDF_")} | _identity(installation)
    err = ""
    # A machine that builds for linux only has no chip tools; from 6.0 on ESP-IDF has a word for that.
    for more in ({}, {"IDF_SKIP_TOOLS_CHECK": "1"}):
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="build-orchestrator-")
        try:
            argv = [python, tool, "export", "--format", "key-value"]
            # Its TMPDIR is ours: every call leaves a file for `deactivate` there.
            code, out, this_err = await runner(argv, env | more | {"TMPDIR": folder}, timeout_s)
        except TimeoutError:
            raise EnvironmentMissing(f"{tool} export did not end within {timeout_s:g} s: run it by hand") from None
        except OSError as error:
            raise EnvironmentMissing(
                f"the Python of ESP-IDF {installation.version}, {python}, cannot be run ({error.strerror}): "
                f"run {installation.path / 'install.sh'}"
            ) from None
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        matches = (_VARIABLE.fullmatch(line.strip()) for line in out.splitlines())
        printed = {match[1]: match[2] for match in matches if match}
        if code == 0 and "PATH" in printed:
            return printed
        err = err or this_err or out
    raise EnvironmentMissing(_why_not(installation, err))


def _identity(installation: Installation) -> dict[str, str]:
    return {
        "IDF_PATH": str(installation.path),
        "IDF_TOOLS_PATH": str(installation.tools_path),
        "IDF_PYTHON_ENV_PATH": str(installation.python.parent.parent),
    }


def _activated(installation: Installation, printed: Mapping[str, str]) -> dict[str, str]:
    folders = [folder for folder in printed["PATH"].split(":") if folder not in ("$PATH", "%PATH%")]
    folders += [str(installation.python.parent), str(installation.path / "tools")]
    kept = {name: value for name, value in printed.items() if name not in _NOT_KEPT}
    return {
        **kept,
        **_identity(installation),
        "ESP_IDF_VERSION": installation.release,
        "PATH": joined_path(folders),
    }


def _why_not(installation: Installation, err: str) -> str:
    """The reason in ESP-IDF's words, without its advice to run a script that this installation may not have."""
    install = installation.path / "install.sh"
    missing = list(dict.fromkeys(re.findall(r"tool (\S+) has no installed versions", err)))
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        return f"ESP-IDF {installation.version} lacks {', '.join(missing[:4])}{more}: run {install}"
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "it printed nothing")
    reason = reason.removeprefix("ERROR:").strip()
    return f"ESP-IDF {installation.version} in {installation.path} cannot be activated ({reason[:240]}): run {install}"


def _key(installation: Installation, path: str) -> str:
    """A hash that changes with whatever `export` looks at: its own files, its Python, the tools installed."""
    tools = installation.tools_path / "tools"
    watched = [
        installation.path / "tools" / "tools.json",
        installation.path / "tools" / "idf_tools.py",
        installation.path / "tools" / "cmake" / "version.cmake",
        installation.python,
        installation.python.parent.parent / "pyvenv.cfg",
        installation.python.parent.parent / "idf_version.txt",
        installation.tools_path / "idf-env.json",
        tools,
    ]
    with contextlib.suppress(OSError):
        watched += sorted(tools.iterdir())
    state = [installation.model_dump_json(), path, *(f"{one}:{stamp(one)}" for one in watched)]
    return hashlib.sha256("\0".join(state).encode("utf-8", "surrogateescape")).hexdigest()


def _remembered(file: Path, key: str) -> dict[str, str] | None:
    try:
        content: Any = json.loads(read_text(file) or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    fields = cast("dict[str, Any]", content)
    values: Any = fields.get("environment")
    if fields.get("key") != key or not isinstance(values, dict):
        return None
    activated = cast("dict[str, Any]", values)
    return activated if all(isinstance(value, str) for value in activated.values()) else None


def _remember(file: Path, key: str, activated: Mapping[str, str]) -> None:
    """Written beside and renamed, as several builds may activate at once. A full disk costs the next one 0.2 s."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".new", delete=False, encoding="utf-8") as new:
            json.dump({"key": key, "environment": activated}, new)
        Path(new.name).replace(file)
