"""What idf.py would look at before ninja's first step and ninja would not see: recorded after a build, compared before.

The record lies in the build directory, so that whoever deletes or moves that, or lets another tool configure it, is
noticed. Any difference means idf.py; none means that ninja alone makes the same binaries, 240 times faster on a no-op.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from mcp_server.idf.installation import read_text, stamp
from mcp_server.idf.project import read_cache

RECORD = ".build-orchestrator.json"
FORMAT = 1
MAX_RECORD_BYTES = 1024 * 1024

MAX_SOURCES = 5000  # names below one component; a larger one is vendored code whose list of files hardly changes
MAX_COMPONENTS = 500
MAX_DEPTH = 8
INSTALLED_IN: Final = "the ESP-IDF folder"  # named by every rule in build.ninja
FUTURE_S = 60  # the clocks of two machines on one file system differ by less

# idf.py passes them on and decides nothing by them; they differ from one terminal to the next.
_VOLATILE: Final = {"SSH_AUTH_SOCK", "LANG", "TZ", "SHELL", "USER", "TMPDIR", "IDF_DEACTIVATE_FILE_PATH"}

# A new one is ignored until the next configure; a removed one made ninja re-run CMake for minutes.
_OF_COMPONENT: Final = ("CMakeLists.txt", "Kconfig", "Kconfig.projbuild", "idf_component.yml", "project_include.cmake")
_OF_PROJECT: Final = (*_OF_COMPONENT, "CMakePresets.json", "CMakeUserPresets.json", "dependencies.lock", "version.txt")
_SOURCES: Final = {".c", ".cc", ".cpp", ".cxx", ".s", ".S", ".asm"}
NOT_SOURCES: Final = {"build", "managed_components", "node_modules"}

# The build itself writes these; ninja re-runs CMake when they change during one.
_GENERATED: Final = {"sdkconfig", "dependencies.lock"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`inputs`: what the configuration was made with. `watched`: files, by what they are called in a reason."""

    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    watched: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Changed:
    """The first difference, in words. `configure`: only a new run of CMake would see it; `may`: idf.py may run one."""

    what: str
    configure: bool = False
    may_configure: bool = False


def fingerprint(folder: Path, build_dir: Path, inputs: Mapping[str, str], sdkconfig: Path) -> Fingerprint:
    """The state of a project and its build directory now. Reads a few dozen files' times, no contents of sources."""
    cache = read_cache(build_dir)
    names = ("CMAKE_HOME_DIRECTORY", "PYTHON", "CMAKE_GENERATOR", "IDF_TARGET", "CCACHE_ENABLE")
    of_cmake = {name: cache.get(name, "") for name in names}
    of_cmake |= {name: stamp(build_dir / name) for name in ("CMakeCache.txt", "build.ninja")}
    watched = dict(_watched(folder, build_dir)) | {"sdkconfig": stamp(sdkconfig)}
    return Fingerprint({**inputs, **of_cmake}, {name: value for name, value in watched.items() if value})


def after_a_build(
    before: Mapping[str, str],
    planned_at: float,
    folder: Path,
    build_dir: Path,
    inputs: Mapping[str, str],
    sdkconfig: Path,
) -> Fingerprint:
    """The state to record of a build that was planned at `planned_at` (Unix seconds), when `before` was watched.

    What changed since then counts as not yet seen, as CMake may have looked earlier. What only the build's own
    configure led to, e.g. a component outside the project, is taken as it is now, if it is older than the plan.
    """
    now = fingerprint(folder, build_dir, inputs, sdkconfig)
    older = {name: value for name, value in _watched(folder, build_dir, planned_at) if value}
    generated = {name: now.watched.get(name, "") for name in _GENERATED}
    watched = older | dict(before) | generated
    return Fingerprint(now.inputs, {name: value for name, value in watched.items() if value})


def dated_ahead(found: Fingerprint) -> str | None:
    """A file of CMake's that is dated so far in the future that build.ninja cannot become newer in reasonable time."""
    limit = (time.time() + FUTURE_S) * 1e9
    for name, value in found.watched.items():
        _, _, modified_ns = value.partition(":")
        if modified_ns and int(modified_ns) > limit:
            return name
    return None


def environment_hash(environment: Mapping[str, str]) -> str:
    """Of all that may steer idf.py or CMake; proxies, languages and sockets do not."""
    kept = [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name not in _VOLATILE and not name.startswith("LC_") and not name.lower().endswith("_proxy")
    ]
    return hashlib.sha256("\0".join(kept).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def difference(recorded: Fingerprint, now: Fingerprint) -> Changed | None:
    """What changed since the record, or None. What only CMake sees comes first, as it needs the longer way."""
    for name in sorted({*recorded.watched, *now.watched}):
        before, after = recorded.watched.get(name), now.watched.get(name)
        if before != after:
            how = "is new" if before is None else "is gone" if after is None else "changed"
            return Changed(f"{name} {how}", configure=True)
    if recorded.inputs.get(INSTALLED_IN) != now.inputs.get(INSTALLED_IN):
        return Changed(f"{INSTALLED_IN} changed", configure=True)
    for name in sorted({*recorded.inputs, *now.inputs}):
        if recorded.inputs.get(name) != now.inputs.get(name):
            return Changed(f"{name} changed", may_configure=True)
    return None


def extensions(folder: Path, build_dir: Path, environment: Mapping[str, str]) -> str | None:
    """What may hook into every idf.py run and so forbids to leave it out; None where there is nothing."""
    if environment.get("IDF_EXTRA_ACTIONS_PATH"):
        return "IDF_EXTRA_ACTIONS_PATH"
    for component in [folder, *components(folder, build_dir, with_managed=True)]:
        if stamp(component / "idf_ext.py"):
            return _called(folder, component / "idf_ext.py")
    return None


def read_record(build_dir: Path) -> Fingerprint | None:
    """What was recorded here last; None where nothing usable is."""
    try:
        content: Any = json.loads(read_text(build_dir / RECORD, MAX_RECORD_BYTES) or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    fields = cast("dict[str, Any]", content)
    parts = [fields.get("inputs"), fields.get("watched")]
    if fields.get("format") != FORMAT or not all(isinstance(part, dict) for part in parts):
        return None
    return Fingerprint(cast("dict[str, str]", parts[0]), cast("dict[str, str]", parts[1]))


def write_record(build_dir: Path, found: Fingerprint) -> bool:
    """Put the record in place; False where it cannot be written, which only costs the next build a second."""
    content = {"format": FORMAT, "inputs": dict(found.inputs), "watched": dict(found.watched)}
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=build_dir, prefix=RECORD, delete=False, encoding="utf-8", errors="surrogateescape"
        ) as new:
            json.dump(content, new)
        Path(new.name).replace(build_dir / RECORD)
    except OSError:
        return False
    return True


def forget(build_dir: Path) -> None:
    """Remove the record: nothing is known of this configuration any more."""
    with contextlib.suppress(OSError):
        (build_dir / RECORD).unlink()


def _watched(folder: Path, build_dir: Path, until: float | None = None) -> Iterator[tuple[str, str]]:
    names = [*_OF_PROJECT, *(entry.name for entry in entries(folder) if entry.name.startswith("sdkconfig.defaults"))]
    for name in names:
        yield name, _stamp_until(folder / name, until)
    for component in components(folder, build_dir):
        called = _called(folder, component)
        for name in _OF_COMPONENT:
            yield f"{called}/{name}", _stamp_until(component / name, until)
        yield f"the list of sources of {called}", _sources(component, until)


def components(folder: Path, build_dir: Path, *, with_managed: bool = False) -> list[Path]:
    """The project's own components: the customary folders, and where the last configure found others."""
    found = [folder / "main"]
    roots = [folder / "components", folder / "bootloader_components"]
    roots += [folder / "managed_components"] if with_managed else []
    for path in _described(build_dir):
        # EXTRA_COMPONENT_DIRS lead outside the project; a new neighbour there is a new component.
        if path.parent not in (folder, *roots) and path.parent.name != "managed_components":
            roots.append(path.parent)
            found.append(path)
    for root in dict.fromkeys(roots):
        found += [root / entry.name for entry in entries(root) if entry.is_dir()]
    return sorted(dict.fromkeys(found))[:MAX_COMPONENTS]


def _described(build_dir: Path) -> Iterator[Path]:
    """Component folders that the last configure used, without ESP-IDF's own."""
    try:
        content: Any = json.loads(read_text(build_dir / "project_description.json") or "{}")
    except (ValueError, RecursionError):
        return
    fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    idf_path, paths = fields.get("idf_path"), fields.get("build_component_paths")
    for path in cast("list[Any]", paths) if isinstance(paths, list) else []:
        if isinstance(path, str) and path.startswith("/") and not path.startswith(f"{idf_path}/"):
            yield Path(path)


def _sources(component: Path, until: float | None) -> str:
    """A hash of the names of all sources below a component, as SRC_DIRS and file(GLOB) are only looked up by CMake."""
    names: list[str] = []
    waiting = [(component, 0)]
    while waiting:
        here, depth = waiting.pop()
        for entry in entries(here):
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH and entry.name not in NOT_SOURCES and not entry.name.startswith("."):
                    waiting.append((here / entry.name, depth + 1))
            elif Path(entry.name).suffix in _SOURCES and _is_older(entry, until):
                names.append(os.path.relpath(entry.path, component))
        if len(names) > MAX_SOURCES:
            return ""
    if not names:
        return ""
    return hashlib.sha256("\0".join(sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_older(entry: os.DirEntry[str], until: float | None) -> bool:
    if until is None:
        return True
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False).st_ctime <= until
    return False


def _stamp_until(path: Path, until: float | None) -> str:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    # The change time, as a file moved or copied here may bring an old modification time along.
    return "" if until is not None and found.st_ctime > until else stamp(path)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _called(folder: Path, path: Path) -> str:
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)
