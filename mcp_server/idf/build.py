"""Plans a build: one job's command for one build directory, by idf.py or, where nothing else could matter, by ninja."""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import BadInput
from mcp_server.idf.environment import DEFAULT_PATH
from mcp_server.idf.fingerprint import (
    INSTALLED_IN,
    Changed,
    Fingerprint,
    after_a_build,
    dated_ahead,
    difference,
    environment_hash,
    extensions,
    fingerprint,
    forget,
    read_record,
    write_record,
)
from mcp_server.idf.installation import Installation, open_file, stamp
from mcp_server.idf.project import read_cache, sdkconfig_target

CLOCK_STEP_S = 0.02  # a file's change time comes from a clock that goes in steps of up to 10 ms
# Of no fingerprint. Else Python's lines reach the log long after those of the tools that it runs.
UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}
RULES_BYTES = 65_536  # of build.ninja, where how to run CMake again may be written
FULL_BELOW_BYTES = 1024 * 1024  # CMake hides ENOSPC; with less than 1 MiB free no configure ends well

# Constant text: what varies comes as arguments. The shell is gone (exec) before anything is compiled.
#
# build.ninja comes first and alone, so that CMake's failure there is told from a compiler's. ninja tries a hundred
# times where CMake never settles (minutes), so the third re-run is the last; then idf.py configures anew, once.
NINJA_SCRIPT: Final = r"""
ninja=$1 build=$2; shift 2
watch() {
    runs=0
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            "ninja: Entering directory "*|"ninja: no work to do.") continue ;;
            "build-orchestrator: ninja ended "*) return 1 ;;
            *"Re-running CMake..."*) runs=$((runs + 1)); [ "$runs" -le 3 ] || return 1 ;;
        esac
        printf '%s\n' "$line"
    done
}
if { "$ninja" -C "$build" build.ninja 2>&1 || printf 'build-orchestrator: ninja ended %s\n' "$?"; } | watch; then
    exec "$ninja" -C "$build" all
fi
printf '%s\n' 'build-orchestrator: CMake did not settle under ninja, so idf.py configures anew'
"$@" reconfigure || exit
case $("$ninja" -C "$build" -n build.ninja 2>&1) in
    *"Re-running CMake..."*)
        printf '%s\n' 'build-orchestrator: build.ninja stays out of date after a new configure, so nothing was built:'
        "$ninja" -C "$build" -n -d explain build.ninja 2>&1 | grep 'explain:'
        exit 1 ;;
esac
exec "$@" build
"""

# What `set-target` does to an sdkconfig of another chip; itself it refuses a folder that a failed configure left.
SET_ASIDE_SCRIPT: Final = r"""
mv -f -- "$1" "$1.old" || exit
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class BuildCommand:
    """One job that builds. `why` says, in words for the log, what was decided and by which fact.

    `memo` is what `after_build` needs once the job is over: small, JSON, without a secret, so that it can be stored
    with the attempt and another worker can go on from it.
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    build_dir: Path
    uses_ninja: bool
    why: str
    memo: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is to be built, with what was read of the build directory."""

    folder: Path
    build_dir: Path
    in_own_dir: bool
    installation: Installation
    env: Mapping[str, str]
    target: str | None
    definitions: tuple[str, ...]
    sdkconfig: Path
    cache: Mapping[str, str]
    inputs: Mapping[str, str]
    now: Fingerprint

    def idf_py(self, *actions: str, define_target: bool = False) -> tuple[str, ...]:
        """idf.py's whole command line; its options go before the actions."""
        options = ["-B", str(self.build_dir)] if self.in_own_dir else []
        definitions = list(self.definitions)
        if self.in_own_dir:
            definitions.append(f"SDKCONFIG={self.sdkconfig}")
        if define_target and self.target:
            definitions.append(f"IDF_TARGET={self.target}")
        options += [part for definition in definitions for part in ("-D", definition)]
        if self.target in self.installation.preview_targets():
            options.append("--preview")
        return (self.python, str(self.installation.idf_py), *options, *actions)

    @property
    def python(self) -> str:
        """The spelling that the cache holds, where it is the same Python: idf.py compares the text."""
        cached = self.cache.get("PYTHON", "")
        same = Path(cached).parent == self.installation.python.parent and os.path.realpath(cached) == os.path.realpath(
            self.installation.python
        )
        return cached if same else str(self.installation.python)


def plan_build(
    folder: Path,
    installation: Installation,
    environment: Mapping[str, str],
    *,
    target: str | None = None,
    clean: bool = False,
    build_dir: Path | None = None,
    definitions: Sequence[str] = (),
) -> BuildCommand:
    """The job that builds the project in `folder`, in `environment`, which is `job_environment`'s.

    `target` None keeps what the project is set to. A build directory other than `folder/build` gets its own sdkconfig.
    `clean` is the only way to a full clean, but for a target that differs. Reads the disk; changes nothing.
    BadInput: a file dated in the future, which even under idf.py makes ninja re-run CMake for minutes.
    """
    planned_at = time.time() - CLOCK_STEP_S  # the machine's own time, as it is compared with that of files
    ask = _asked(folder, installation, environment, target, build_dir, definitions)
    if ahead := dated_ahead(ask.now):
        why = f"{ahead} is dated in the future, so CMake would be re-run without end: touch {ahead}"
        raise BadInput("project", why)
    argv, why, configures, ninja = _decide(ask, clean=clean)
    memo: dict[str, Any] = {
        "folder": str(ask.folder),
        "build_dir": str(ask.build_dir),
        "sdkconfig": str(ask.sdkconfig),
        "inputs": dict(ask.inputs),
        "watched": dict(ask.now.watched),
        "configures": configures,
        "planned_at": planned_at,
    }
    return BuildCommand(
        argv=argv,
        cwd=str(ask.folder),
        env=(_as_idf_py_would(ask) if ninja else dict(ask.env)) | UNBUFFERED,
        build_dir=ask.build_dir,
        uses_ninja=ninja,
        why=why,
        memo=memo,
    )


def _asked(
    folder: Path,
    installation: Installation,
    environment: Mapping[str, str],
    target: str | None,
    build_dir: Path | None,
    definitions: Sequence[str],
) -> _Ask:
    folder = Path(os.path.realpath(folder))
    usual = Path(os.path.realpath(folder / "build"))  # people link it to a faster disk
    build_dir = Path(os.path.realpath(build_dir)) if build_dir else usual
    env = dict(environment)
    if target:
        env.pop("IDF_TARGET", None)  # idf.py refuses a build whose environment and argument differ
    sdkconfig = (folder if build_dir == usual else build_dir) / "sdkconfig"
    inputs = _inputs(installation, env, definitions)
    return _Ask(
        folder=folder,
        build_dir=build_dir,
        in_own_dir=build_dir != usual,
        installation=installation,
        env=env,
        target=target,
        definitions=tuple(definitions),
        sdkconfig=sdkconfig,
        cache=read_cache(build_dir),
        inputs=inputs,
        now=fingerprint(folder, build_dir, inputs, sdkconfig),
    )


def after_build(memo: Mapping[str, Any], *, started_at: float, succeeded: bool) -> bool:
    """Record, once the job is over, that what is configured now is ours; True if it was. Reads and writes the disk.

    Also for a build that failed in the compiler, so that the next one, with the mistake mended, is ninja's. Where the
    configure itself failed or was cut short the record is removed. `started_at` in Unix seconds, as in the exit record.
    """
    build_dir = Path(memo["build_dir"])
    file = build_dir / "build.ninja"
    try:
        settled = (build_dir / "CMakeCache.txt").exists() and file.stat().st_size > 0
        # CMake writes build.ninja last, and always anew.
        settled = settled and (succeeded or not memo["configures"] or file.stat().st_mtime >= started_at)
    except OSError:
        settled = False
    if not settled:
        forget(build_dir)
        return False
    found = after_a_build(
        memo["watched"],
        memo["planned_at"],
        Path(memo["folder"]),
        build_dir,
        memo["inputs"],
        Path(memo["sdkconfig"]),
    )
    return write_record(build_dir, found)


def disk_is_full(path: Path) -> bool:
    """Whether the file system of `path`, or of its nearest existing parent, has less than 1 MiB for this user."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize < FULL_BELOW_BYTES or (found.f_files > 0 and found.f_favail == 0)
    return False


def _decide(ask: _Ask, *, clean: bool) -> tuple[tuple[str, ...], str, bool, bool]:
    """The command, why, whether it configures for sure, whether it is ninja's."""
    current = sdkconfig_target(ask.sdkconfig)
    cached = ask.cache.get("IDF_TARGET")
    if not ask.cache:
        return _first(ask, current)
    if ask.target and (cached != ask.target or current not in (None, ask.target)):
        why = f"idf.py sets the target: {current or cached or 'none'} becomes {ask.target}"
        return ask.idf_py("set-target", ask.target, "build"), why, True, False
    if clean:
        define = current is None or ask.in_own_dir
        return ask.idf_py("fullclean", "build", define_target=define), "idf.py cleans all, as asked", True, False
    # Over another Python's or folder's cache idf.py refuses to build; to configure there would mix the two up.
    foreign = os.path.realpath(ask.cache.get("CMAKE_HOME_DIRECTORY", "")) != os.path.realpath(ask.folder)
    if not foreign and (moved := _moved(ask)):
        return ask.idf_py("reconfigure", "build"), f"idf.py configures: {moved}", True, False
    if foreign or ask.cache.get("PYTHON", "") != ask.python:
        return (
            ask.idf_py("build"),
            "idf.py: the build directory was configured by another Python or folder",
            False,
            False,
        )
    changed = _changed(ask)
    if changed is None:
        return _ninja(ask), "ninja: nothing that only idf.py would see has changed", False, True
    if changed.configure:
        return ask.idf_py("reconfigure", "build"), f"idf.py configures: {changed.what}", True, False
    return ask.idf_py("build"), f"idf.py: {changed.what}", changed.may_configure, False


def _first(ask: _Ask, current: str | None) -> tuple[tuple[str, ...], str, bool, bool]:
    """Nothing is configured here. set-target would refuse what a failed configure left, so it is `-D IDF_TARGET`."""
    argv = ask.idf_py("build", define_target=True)
    if ask.target and current not in (None, ask.target):
        argv = ("/bin/sh", "-c", SET_ASIDE_SCRIPT, "build-orchestrator", str(ask.sdkconfig), *argv)
        return (
            argv,
            f"idf.py configures for {ask.target}; sdkconfig, made for {current}, becomes sdkconfig.old",
            True,
            False,
        )
    return argv, "idf.py configures: nothing is configured here yet", True, False


def _moved(ask: _Ask) -> str | None:
    """What was configured here names programs that are gone, or the same ESP-IDF in another folder."""
    named = [ask.cache.get("PYTHON", ""), ask.cache.get("CMAKE_COMMAND", ""), *_of_rules(ask.build_dir)]
    for path in named:
        if path.startswith("/") and not os.path.exists(path):  # noqa: PTH110 - a name with a NUL is no error here
            return f"{path} is gone"
    recorded = read_record(ask.build_dir)
    if recorded is None or "the ESP-IDF version" not in recorded.inputs:
        return None
    before, now = recorded.inputs, ask.inputs
    moved = before["the ESP-IDF version"] == now["the ESP-IDF version"] and before.get(INSTALLED_IN, "") not in (
        "",
        now[INSTALLED_IN],
    )
    return f"{INSTALLED_IN} changed" if moved else None


def _of_rules(build_dir: Path) -> list[str]:
    """The programs and scripts by which build.ninja itself would run CMake again."""
    try:
        with open_file(build_dir / "build.ninja") as file:
            text = file.read(RULES_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    found = re.search(r"^ *command = (.{1,4000}?) --regenerate-during-build", text, re.MULTILINE | re.IGNORECASE)
    words = found[1].replace("$ ", " ").replace("$:", ":") if found else ""
    try:
        return shlex.split(words)
    except ValueError:
        return []


def _changed(ask: _Ask) -> Changed | None:
    """Why ninja may not be run directly; None if it may."""
    recorded = read_record(ask.build_dir)
    if recorded is None:
        return Changed("no configure of ours is on record here", configure=True)
    if changed := difference(recorded, ask.now):
        return changed
    if ask.env.get("BUILD_ORCHESTRATOR_NINJA", os.environ.get("BUILD_ORCHESTRATOR_NINJA")) == "0":
        return Changed("BUILD_ORCHESTRATOR_NINJA=0")
    if ask.cache.get("CMAKE_GENERATOR") != "Ninja":
        return Changed(f"the generator is {ask.cache.get('CMAKE_GENERATOR') or 'unknown'}")
    if extension := extensions(ask.folder, ask.build_dir, ask.env):
        return Changed(f"{extension} may act on every run")
    if _ninja_program(ask) is None:
        return Changed("ninja is not on PATH")
    return None


def _ninja(ask: _Ask) -> tuple[str, ...]:
    program = _ninja_program(ask)
    assert program is not None
    fall_back = ask.idf_py()
    return ("/bin/sh", "-c", NINJA_SCRIPT, "build-orchestrator", program, str(ask.build_dir), *fall_back)


def _ninja_program(ask: _Ask) -> str | None:
    return shutil.which("ninja", path=ask.env.get("PATH", DEFAULT_PATH))


def _inputs(installation: Installation, env: Mapping[str, str], definitions: Sequence[str]) -> dict[str, str]:
    """What a configuration was made with, apart from what CMake's own cache holds."""
    home = installation.python.parent.parent
    packages = [stamp(path) for path in sorted(home.glob("lib/python3*/site-packages"))]
    return {
        "the environment": environment_hash(env),
        INSTALLED_IN: os.path.realpath(installation.path),
        "the ESP-IDF version": installation.version,
        "the Python environment": ",".join([str(installation.python), stamp(home / "pyvenv.cfg"), *packages]),
        "the -D list": "\n".join(definitions),
    }


def _as_idf_py_would(ask: _Ask) -> dict[str, str]:
    """The environment that idf.py gives to ninja, in case ninja has to re-run CMake."""
    env = {**ask.env, "PYTHON": ask.python, "IDF_VERSION": ask.installation.version}
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    if "utf" not in locale.lower():
        env.pop("LC_ALL", None)
        env["LC_CTYPE"] = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    return env
